"""The package as a contestant: its own loop, trainer and settings."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch

from domain_experts.data.interactions import Interactions
from domain_experts.models.ctr import ClickModel
from domain_experts.params import Study, load
from domain_experts.settings import RunSettings
from domain_experts.training.batches import Rows
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.loop import Lane, Trainer
from domain_experts.training.losses import Loss, mean
from domain_experts.training.progress import Progress

ROOT = Path(__file__).parents[1]


def settings(
    arm: str, dataset: str, backbone: str, changed: Mapping[str, Any] | None = None
) -> RunSettings:
    """The settings that the study has for an arm, data set and backbone.

    Args:
        arm: as in params.yaml.
        dataset: as in params.yaml.
        backbone: as in params.yaml.
        changed: dotted settings to be replaced.
    """
    study = Study(load(ROOT / "params.yaml"), "paper")
    return study.settings(arm, tuple((changed or {}).items()), dataset, backbone)


class Loop(Trainer):
    """The package's training loop on some rows, one epoch at a time."""

    def __init__(
        self,
        model: ClickModel,
        data: Interactions,
        settings: RunSettings,
        train: np.ndarray,
        decay: float,
        loss: Loss = mean,
    ) -> None:
        folder = Path(mkdtemp(prefix="bench-"))
        super().__init__(
            model,
            Rows.of(data, torch.device("cpu")),
            settings,
            seed=0,
            checkpoint=Checkpoint(folder / "checkpoint.safetensors", "bench"),
            progress=Progress("bench"),
            decay=decay,
            loss=loss,
        )
        folder.rmdir()
        self.lane = Lane("all", train, train[:0], dict(model.named_parameters()))
        self._prepare(self.lane.parameters)
        self.epochs = 0

    def epoch(self) -> float:
        """One epoch of the loop: batches, forward, loss, backward, Adam; returns the loss."""
        self.epochs += 1
        (loss,) = self._epoch("bench", self.epochs, [self.lane])
        return loss
