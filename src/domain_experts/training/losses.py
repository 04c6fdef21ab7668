"""Losses of a batch, by lane."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor, Sequence[int]], Tensor]
"""From logits (B, T), labels (B, T), domains (B,) and rows by lane to the loss of each lane."""


def mean(logits: Tensor, labels: Tensor, domain: Tensor, counts: Sequence[int]) -> Tensor:
    """Mean cross entropy of each lane's rows over all their domains and tasks."""
    losses = cross_entropy(logits, labels, reduction="none")
    return torch.stack([own.mean() for own in torch.split(losses, list(counts))])


def balanced(logits: Tensor, labels: Tensor, domain: Tensor, counts: Sequence[int]) -> Tensor:
    """Sum over domains and tasks of the mean cross entropy of their rows (M3oE, eq. 12).

    A domain without rows in the batch adds nothing.
    """
    losses = cross_entropy(logits, labels, reduction="none").sum(1)
    parts = zip(torch.split(losses, list(counts)), torch.split(domain, list(counts)), strict=True)
    return torch.stack([_domain_means(own, ids).sum() for own, ids in parts])


LOSSES: Mapping[str, Loss] = {"mean": mean, "balanced": balanced}


def _domain_means(losses: Tensor, domain: Tensor) -> Tensor:
    """Mean of losses (B,) by domain; 0 where there are no rows."""
    rows = torch.bincount(domain)
    return losses.new_zeros(len(rows)).index_add(0, domain, losses) / rows.clamp(min=1)
