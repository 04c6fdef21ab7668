"""What a model is built from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from domain_experts.schema import Schema
from domain_experts.strict import Settings

Own = TypeVar("Own", bound=Settings)


@dataclass(frozen=True)
class Context(Generic[Own]):
    """Data set, settings, and how the weights start.

    `settings` are those of the family's models. A model takes of the rest what it has.
    """

    schema: Schema
    settings: Own
    generator: torch.Generator
    """Random stream of the initial weights."""
    tower_init: str = "glorot_normal"
    embedding_std: float = 0.01
    dropout_last: bool = False
    """Dropout of the tower after the activation, not before it."""
    vectors: Mapping[str, Tensor] = field(default_factory=dict)
    """Pretrained tables (size, embedding_dim) of some fields, which stay as they are."""
    fusion_start: float | None = None
    """Logit at which fusion scalars start, of a model that has some."""
