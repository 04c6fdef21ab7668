"""Named orders of rows, and splits that cut an order by position."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from domain_experts.data.interactions import Interactions
from domain_experts.data.split import TEST, TRAIN, VALIDATION

if TYPE_CHECKING:
    from domain_experts.data.specs import SplitRule

# one shuffled order for all: the runs' seeds vary the training, not the rows
_SHUFFLE_SEED = 0


def by_time(time: np.ndarray) -> np.ndarray:
    """(N,) int64 row numbers, earliest row first; rows of one moment keep their order."""
    return np.argsort(time, kind="stable")


def two_sorts(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Row numbers as pandas' former inner merge left ratings that were joined to items and users.

    Rows go by their item's first appearance; then, stably, by their user's first appearance in
    that order. The public sample of M3oE's prepared MovieLens-1M is in this order.

    Args:
        user: (N,) ids.
        item: (N,) ids.

    Returns:
        (N,) int64 row numbers.
    """
    by_item = np.argsort(_appearance(item), kind="stable")
    return by_item[np.argsort(_appearance(user[by_item]), kind="stable")]


def _appearance(ids: np.ndarray) -> np.ndarray:
    """(N,) number of the row where each row's id appears first."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


def shuffled(rows: int) -> np.ndarray:
    """(N,) int64 row numbers in one fixed random order."""
    return np.random.default_rng(_SHUFFLE_SEED).permutation(rows)


def each_user(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Row numbers by the share of the user's history that lies before the row.

    Of a user with n rows the k-th (from 0) by time stands at (k + 1/2) / n, so a cut by position
    takes the last rows of every user. Rows at one place go by time.

    Args:
        user: (N,) ids.
        time: (N,) moments; rows of one moment keep their order.

    Returns:
        (N,) int64 row numbers.
    """
    order = by_time(time)
    order = order[np.argsort(user[order], kind="stable")]
    _, first, sizes = np.unique(user[order], return_index=True, return_counts=True)
    place = np.empty(len(user))
    rank = np.arange(len(user)) - np.repeat(first, sizes)
    place[order] = (rank + 0.5) / np.repeat(sizes, sizes)
    return np.lexsort((time, place))


def positional(rows: int, validation_fraction: float, test_fraction: float) -> np.ndarray:
    """Cut N rows in their order, as M3oE's public code does.

    The first int((1 - v - t) N) rows are for training, those up to int((1 - t) N) for validation,
    the rest for the test.

    Returns:
        (N,) uint8: 0 train, 1 validation, 2 test.
    """
    # 1 - .3 - .4 is a little less than .3
    train = int(rows * round(1 - validation_fraction - test_fraction, 12))
    held_out = int(rows * round(1 - test_fraction, 12))
    split = np.full(rows, TEST, np.uint8)
    split[:held_out] = VALIDATION
    split[:train] = TRAIN
    return split


def positional_by_domain(
    domain: np.ndarray, validation_fraction: float, test_fraction: float
) -> np.ndarray:
    """Cut the rows of each domain in their order: `positional` for one domain at a time.

    Args:
        domain: (N,) domain ids.
        validation_fraction: Share of the validation rows.
        test_fraction: Share of the test rows.

    Returns:
        (N,) uint8: 0 train, 1 validation, 2 test.
    """
    split = np.empty(len(domain), np.uint8)
    for d in np.unique(domain):
        rows = np.flatnonzero(domain == d)
        split[rows] = positional(len(rows), validation_fraction, test_fraction)
    return split


def with_split(interactions: Interactions, rule: "SplitRule") -> Interactions:
    """The same rows with the split that a positional rule gives; a drawn split comes later."""
    fractions = rule.validation_fraction, rule.test_fraction
    if rule.rule == "positional":
        split = positional(len(interactions.domain), *fractions)
    elif rule.rule == "positional_by_domain":
        split = positional_by_domain(interactions.domain, *fractions)
    else:
        return interactions
    return replace(interactions, given_split=split)
