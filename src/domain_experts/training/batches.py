"""Rows on the device, and the order in which they are visited."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from domain_experts.data.interactions import Interactions
from domain_experts.schema import Schema


@dataclass(frozen=True)
class Rows:
    """All rows of a data set on the training device."""

    schema: Schema
    fields: Tensor
    """(N, F) int32."""
    dense: Tensor
    """(N, K) float32."""
    labels: Tensor
    """(N, T) float32."""
    domain: Tensor
    """(N,) int64."""

    @classmethod
    def of(cls, interactions: Interactions, device: torch.device) -> "Rows":
        """Copy the memory-mapped arrays to the device."""

        def tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
            return torch.from_numpy(np.array(array)).to(device, dtype)

        return cls(
            interactions.schema,
            tensor(interactions.fields, torch.int32),
            tensor(interactions.dense, torch.float32),
            tensor(interactions.labels, torch.float32),
            tensor(interactions.domain, torch.int64),
        )

    def take(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """fields, dense, domain and labels of the rows `index` (B,)."""
        return (
            self.fields.index_select(0, index),
            self.dense.index_select(0, index),
            self.domain.index_select(0, index),
            self.labels.index_select(0, index),
        )


def mixed(index: np.ndarray, size: int, stream: np.random.Generator) -> list[np.ndarray]:
    """One epoch over the rows `index` in random order, in batches of `size`; the last is short."""
    shuffled = stream.permutation(index)
    return [shuffled[start : start + size] for start in range(0, len(shuffled), size)]


def by_domain(
    groups: Sequence[np.ndarray], size: int, stream: np.random.Generator
) -> list[np.ndarray]:
    """One epoch, one domain after another in random order (the public code's loader).

    Args:
        groups: row indices of each domain.
        size: batch size; each domain's last batch is short.
        stream: random stream of the epoch.
    """
    return [
        batch for d in stream.permutation(len(groups)) for batch in mixed(groups[d], size, stream)
    ]
