"""Settings as the study has them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domain_experts.params import load
from domain_experts.settings import RunSettings
from domain_experts.study import Study

ROOT = Path(__file__).parents[1]


def settings(
    arm: str, dataset: str, backbone: str, changed: Mapping[str, Any] | None = None
) -> RunSettings:
    """The settings of the paper tier for an arm, data set and backbone.

    Args:
        arm: as in params.yaml.
        dataset: as in params.yaml.
        backbone: as in params.yaml.
        changed: dotted settings to be replaced.
    """
    study = Study(load(ROOT / "params.yaml"), "paper")
    return study.settings(arm, tuple((changed or {}).items()), dataset, backbone)
