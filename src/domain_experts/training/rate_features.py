"""Counts and click rates as features: what trees see of codes.

Of the training rows that a feature is computed from, none is the row itself: a training row has
those of the other folds (target encoding out of fold, Micci-Barreca 2001), any other row those of
all training rows.
"""

from collections.abc import Iterator

import numpy as np

from domain_experts.training.assignment import Assignment
from domain_experts.training.folds import fold_of_rows

DOMAIN = "domain"


def rate_features(assignment: Assignment) -> np.ndarray:
    """Features of all rows, (N, P) float32.

    They are the dense features, the domain's number and, of the domain, of each other field, and of
    each pair of the two, the share of the training rows that have the row's code and, by task,
    their click rate, smoothed by `rates.smoothing` pseudo-rows: of a code at the overall rate, of a
    pair at the code's. Pooled fields are left out.
    """
    interactions, settings = assignment.interactions, assignment.settings
    domain = np.asarray(interactions.domain, np.int64)
    fold = np.full(len(domain), -1)
    fold[assignment.index("train")] = fold_of_rows(assignment, settings.trees.folds, "rates")
    columns = [np.asarray(interactions.dense, np.float32), domain[:, None].astype(np.float32)]
    labels = np.asarray(interactions.labels, np.float64)
    count = _Counted(labels, fold, settings.rates.smoothing)
    domains = len(interactions.schema.domains)
    columns += count.shares_and_rates(domain, domains)
    for name, codes, size in _fields(assignment):
        if name != DOMAIN:
            own = count.shares_and_rates(codes, size)
            pair = count.shares_and_rates(domain * size + codes, domains * size, prior=own[1])
            columns += [*own, *pair]
    return np.concatenate(columns, 1, dtype=np.float32)


def _fields(assignment: Assignment) -> Iterator[tuple[str, np.ndarray, int]]:
    for j, (name, size) in enumerate(assignment.interactions.schema.single):
        yield name, np.asarray(assignment.interactions.fields[:, j], np.int64), size


class _Counted:
    """Training rows and their clicks by code: for a training row, those of the other folds."""

    def __init__(self, labels: np.ndarray, fold: np.ndarray, smoothing: float) -> None:
        self.labels, self.fold, self.smoothing = labels, fold, smoothing
        # the features of the rows in no fold come from all folds
        self.parts = [
            (np.flatnonzero(fold == k), np.flatnonzero((fold >= 0) & (fold != k)))
            for k in range(-1, fold.max() + 1)
        ]

    def shares_and_rates(
        self, codes: np.ndarray, size: int, prior: np.ndarray | None = None
    ) -> list[np.ndarray]:
        """Share (N, 1) of the rows with a row's code, and their rates (N, T), smoothed to `prior`.

        Without a prior (N, T) it is the overall rate.
        """
        share = np.empty((len(codes), 1))
        rates = np.empty(self.labels.shape)
        for rows, seen in self.parts:
            own = codes[rows]
            number = np.bincount(codes[seen], minlength=size)[own]
            share[rows, 0] = number / len(seen)
            for t, clicked in enumerate(self.labels[seen].T):
                p = clicked.mean() if prior is None else prior[rows, t]
                clicks = np.bincount(codes[seen], weights=clicked, minlength=size)[own]
                rates[rows, t] = (clicks + self.smoothing * p) / (number + self.smoothing)
        return [share, rates]
