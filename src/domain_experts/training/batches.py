"""Rows on the device, and the order in which they are visited."""

import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """(N, C) int32."""
    dense: Tensor
    """(N, K) float32."""
    labels: Tensor
    """(N, T) uint8."""
    domain: Tensor
    """(N,) of some integer type."""
    weight: Tensor | None = None
    """(N,) float32, where rows differ in it."""

    @classmethod
    def of(cls, interactions: Interactions, device: torch.device) -> "Rows":
        """The arrays on the device; on a CPU they stay memory-mapped."""

        def tensor(array: np.ndarray) -> Tensor:
            with warnings.catch_warnings():
                # torch has no tensors that are read-only; nothing writes to these
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
                return torch.from_numpy(array).to(device)

        return cls(
            interactions.schema,
            tensor(interactions.fields),
            tensor(interactions.dense),
            tensor(interactions.labels),
            tensor(interactions.domain),
            None if interactions.weight is None else tensor(interactions.weight),
        )

    def take(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the rows `index` (B,): fields, dense, domain (int64) and labels (float32)."""
        return (
            self.fields.index_select(0, index),
            self.dense.index_select(0, index),
            *self.targets(index),
        )

    def targets(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Of the rows `index` (B,): domain (int64) and labels (float32)."""
        return (
            self.domain.index_select(0, index).long(),
            self.labels.index_select(0, index).float(),
        )

    def weight_of(self, index: Tensor) -> Tensor | None:
        """Weights (B,) of the rows `index` (B,), where rows differ in it."""
        return None if self.weight is None else self.weight.index_select(0, index)


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


def alternating(
    groups: Sequence[np.ndarray], size: int, stream: np.random.Generator
) -> list[np.ndarray]:
    """One epoch, a batch of each domain in turn, whatever their rows. Arguments as of `by_domain`.

    An epoch visits as many rows as there are, in batches as long as those of `mixed`. Of a domain
    all rows come once, in random order, before any comes again.
    """
    return _in_turn(groups, size, stream, itertools.cycle(stream.permutation(len(groups))))


def proportional(
    groups: Sequence[np.ndarray], size: int, stream: np.random.Generator
) -> list[np.ndarray]:
    """The same, a batch's domain being drawn with a probability that goes by its rows."""
    rows = np.array([len(own) for own in groups])
    drawn = stream.choice(len(rows), size=-(-rows.sum() // size), p=rows / rows.sum())
    return _in_turn(groups, size, stream, drawn)


def _in_turn(
    groups: Sequence[np.ndarray], size: int, stream: np.random.Generator, domains: Iterable[int]
) -> list[np.ndarray]:
    """Batches of the given domains."""
    total = sum(map(len, groups))
    waiting = [own[:0] for own in groups]
    batches = []
    for start, d in zip(range(0, total, size), domains, strict=False):
        length = min(size, total - start)
        while len(waiting[d]) < length:
            waiting[d] = np.concatenate([waiting[d], stream.permutation(groups[d])])
        batches.append(waiting[d][:length])
        waiting[d] = waiting[d][length:]
    return batches


OF_ONE_DOMAIN: Mapping[
    str, Callable[[Sequence[np.ndarray], int, np.random.Generator], list[np.ndarray]]
] = {"by_domain": by_domain, "alternating": alternating, "proportional": proportional}
"""Orders in which a batch is of one domain (`protocol.batches`)."""
