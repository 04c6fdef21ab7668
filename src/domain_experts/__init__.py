"""Domain Experts: MoE-MLoRA and M3oE, reproduced by a pipeline and put to the test."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """An estimator, which alone have capitals, or `load`.

    It is imported when it is asked for, and not by a statement: else all that it needs would count
    as code of every result (`digest`).
    """
    if name[:1].isupper():
        return getattr(import_module("domain_experts.estimators"), name)
    if name == "load":
        return import_module("domain_experts.own_model").load
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
