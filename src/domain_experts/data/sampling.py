"""Sampled negatives for logs that hold positives only, as MAMDR draws them for Taobao and Amazon.

Source: the public code of MAMDR (Luo et al. 2023), dataset/Taobao/split.py. There the drawing runs
in a pool of processes, so its very negatives cannot be had again; their numbers can.
"""

import random
from collections.abc import Sequence

import numpy as np

from domain_experts.data.interactions import Interactions
from domain_experts.schema import Schema

SEED = 123
_LOWEST_RATIO, _HIGHEST_RATIO = 0.2, 0.5


def ratios(domains: int) -> list[float]:
    """Positives over negatives of each domain: the released sequence for seed 123."""
    stream = random.Random(SEED)
    return [round(stream.uniform(_LOWEST_RATIO, _HIGHEST_RATIO), 2) for _ in range(domains)]


def with_negatives(
    user: np.ndarray,
    item: np.ndarray,
    domain: np.ndarray,
    domains: Sequence[str],
) -> Interactions:
    """Add sampled negatives to positives, domain by domain.

    A positive that is repeated counts once. A user with n positives in a domain gets
    int(n / ratio) negatives there, drawn without replacement from the domain's items less those
    that are positives of this user in this domain, whatever their split; all of these, where there
    are fewer.

    Args:
        user: (P,) codes from 0, of positives.
        item: (P,) codes from 0.
        domain: (P,) codes from 0, each with at least one row.
        domains: Their names.

    Returns:
        Interactions with the fields user, item and domain and the task `click`; of each domain
        first the positives in the order given, then the negatives by user.
    """
    items, users = int(item.max()) + 1, int(user.max()) + 1
    triple = (domain.astype(np.int64) * users + user) * items + item
    first = np.sort(np.unique(triple, return_index=True)[1])
    user, item, domain = user[first], item[first], domain[first]
    parts = []
    for d, ratio in enumerate(ratios(len(domains))):
        rows = np.flatnonzero(domain == d)
        # the domain's own stream: more domains leave the negatives of the first ones as they are
        rng = np.random.default_rng([SEED, d])
        negative_user, negative_item = negatives(user[rows], item[rows], ratio, rng)
        for u, i, label in ((user[rows], item[rows], 1), (negative_user, negative_item, 0)):
            columns = (u, i, np.full(len(u), d), np.full(len(u), label))
            parts.append(np.stack(columns, axis=1, dtype=np.int32))
    table = np.concatenate(parts)
    return Interactions(
        schema=Schema(
            fields=(("user", users), ("item", items), ("domain", len(domains))),
            dense=(),
            domains=tuple(domains),
            tasks=("click",),
        ),
        fields=np.ascontiguousarray(table[:, :3]),
        dense=np.zeros((len(table), 0), np.float32),
        labels=table[:, 3:].astype(np.uint8),
        domain=table[:, 2].astype(np.int16),
        sampled_negatives=True,
    )


def negatives(
    user: np.ndarray, item: np.ndarray, ratio: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the negatives of one domain.

    Args:
        user: (P,) users of the domain's positives.
        item: (P,) their items; no pair twice.
        ratio: Positives over negatives.
        rng: Where the draws come from.

    Returns:
        (M,) users and (M,) items, sorted by user, then item.
    """
    users, owner, clicks = np.unique(user, return_inverse=True, return_counts=True)
    items, position = np.unique(item, return_inverse=True)
    free = len(items) - clicks
    wanted = np.minimum((clicks / ratio).astype(np.int64), free)
    chosen, rank = _distinct(wanted, free, rng)
    # a user's rank among the items left is turned into a position among all items: a clicked item
    # at sorted place j shifts the ranks from its position less j on by one
    order = np.lexsort((position, owner))
    starts = np.cumsum(clicks) - clicks
    place = np.arange(len(order)) - np.repeat(starts, clicks)
    width = len(items) + 1
    shifts_from = owner[order] * width + position[order] - place
    shift = np.searchsorted(shifts_from, chosen * width + rank, side="right") - starts[chosen]
    return users[chosen], items[rank + shift]


def _distinct(
    count: np.ndarray, size: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw count[i] distinct numbers below size[i] for each i, every such set equally likely.

    Returns:
        (sum of count,) i and the numbers, sorted by i, then number.
    """
    ends = np.cumsum(size)
    starts = ends - size
    # of a set that holds more than half, draw what it leaves out
    leave_out = 2 * count > size
    missing = np.where(leave_out, size - count, count)
    goal, drawn = missing, np.empty(0, np.int64)
    while missing.any():
        i = np.repeat(np.arange(len(size)), missing)
        # repeats fall together; what they leave missing is drawn again
        drawn = _merge(drawn, starts[i] + rng.integers(0, size[i]))
        missing = goal - np.bincount(_owner(drawn, ends), minlength=len(size))
    i = np.flatnonzero(leave_out)
    whole = np.repeat(starts[i] - np.cumsum(size[i]) + size[i], size[i]) + np.arange(size[i].sum())
    left_out = leave_out[_owner(drawn, ends)]
    kept = np.setdiff1d(whole, drawn[left_out], assume_unique=True)
    drawn = _merge(drawn[~left_out], kept)
    owner = _owner(drawn, ends)
    return owner, drawn - starts[owner]


def _owner(numbers: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The interval, of those that end before `ends`, in which each number lies."""
    return np.searchsorted(ends, numbers, side="right")


def _merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """All numbers of both, sorted, each once: what np.union1d gives, at a tenth of the time."""
    both = np.sort(np.concatenate([a, b]))
    first = np.append(True, both[1:] != both[:-1])[: len(both)]
    return np.asarray(both[first])
