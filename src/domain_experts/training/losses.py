"""Losses of a batch, by lane.

Where rows have weights, a mean over rows is the weighted one; it is 0 where all weights are 0.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

Loss = Callable[[Tensor, Tensor, Tensor, Sequence[int], Tensor | None], Tensor]
"""From logits (B, T), labels (B, T), domains (B,), rows by lane and, where rows differ in it, their
weights (B,) to the loss of each lane."""


def mean(
    logits: Tensor,
    labels: Tensor,
    domain: Tensor,
    counts: Sequence[int],
    weight: Tensor | None = None,
) -> Tensor:
    """Mean cross entropy of each lane's rows over all their domains and tasks."""
    losses = cross_entropy(logits, labels, reduction="none")
    if weight is None and len(counts) == 1:
        return losses.mean().unsqueeze(0)
    if weight is None:
        return torch.stack([own.mean() for own in torch.split(losses, list(counts))])
    parts = zip(
        torch.split(losses.mean(1), list(counts)), torch.split(weight, list(counts)), strict=True
    )
    return torch.stack([(own * w).sum() / _divisor(w.sum()) for own, w in parts])


def balanced(
    logits: Tensor,
    labels: Tensor,
    domain: Tensor,
    counts: Sequence[int],
    weight: Tensor | None = None,
) -> Tensor:
    """Sum over domains and tasks of the mean cross entropy of their rows (M3oE, eq. 12).

    A domain without rows in the batch adds nothing.
    """
    losses = cross_entropy(logits, labels, reduction="none").sum(1)
    weights = [None] * len(counts) if weight is None else torch.split(weight, list(counts))
    parts = zip(
        torch.split(losses, list(counts)),
        torch.split(domain, list(counts)),
        weights,
        strict=True,
    )
    return torch.stack([_domain_means(own, ids, w).sum() for own, ids, w in parts])


def by_task(
    loss: Loss, logits: Tensor, labels: Tensor, domain: Tensor, weight: Tensor | None = None
) -> list[Tensor]:
    """The loss of each task alone, all rows being of one lane."""
    columns = ((logits[:, [t]], labels[:, [t]]) for t in range(logits.shape[1]))
    return [loss(*column, domain, [len(logits)], weight).sum() for column in columns]


def share_of_sum(loss: Loss, tasks: int) -> float:
    """What `by_task` sums up to, times this, is the loss."""
    return 1 / tasks if loss is mean else 1.0


def of_rows(
    loss: Loss, losses: Tensor, tasks: int, domain: Tensor, weight: Tensor | None = None
) -> Tensor:
    """What losses (B,) of rows come to where they count as those of one task among so many."""
    if loss is not mean:
        return _domain_means(losses, domain, weight).sum()
    weights = torch.ones_like(losses) if weight is None else weight
    own: Tensor = (losses * weights).sum() / _divisor(weights.sum())
    return share_of_sum(loss, tasks) * own


LOSSES: Mapping[str, Loss] = {"mean": mean, "balanced": balanced}


def _domain_means(losses: Tensor, domain: Tensor, weight: Tensor | None) -> Tensor:
    """Mean of losses (B,) by domain; 0 where there are no rows."""
    if weight is not None:
        total = weight.new_zeros(int(domain.max()) + 1).index_add(0, domain, weight)
        return torch.zeros_like(total).index_add(0, domain, losses * weight) / _divisor(total)
    rows = torch.bincount(domain)
    return losses.new_zeros(len(rows)).index_add(0, domain, losses) / rows.clamp(min=1)


def _divisor(total: Tensor) -> Tensor:
    """Sums of weights; where they are 0, so is what they divide."""
    return torch.where(total > 0, total, 1)
