"""Domain Experts: MoE-MLoRA and M3oE, reproduced by a pipeline and put to the test."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


_APART = {"Study": "own_study", "load": "own_model"}


def __getattr__(name: str) -> Any:
    """`Study`, `load`, or an estimator, which alone of all that is here have capitals.

    It is imported when it is asked for, and not by a statement: else all that it needs would count
    as code of every result (`digest`).
    """
    if name in _APART or name[:1].isupper():
        return getattr(import_module(f"{__name__}.{_APART.get(name, 'estimators')}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
