"""Folds of the training rows, for what is learned on rows that something else has not seen."""

from dataclasses import replace

import numpy as np

from domain_experts.data.split import UNUSED
from domain_experts.training.assignment import Assignment
from domain_experts.training.streams import numpy_stream


def fold_of_rows(assignment: Assignment, folds: int, purpose: str) -> np.ndarray:
    """Fold of each training row, (n,) from 0.

    A domain's rows are drawn into folds of one size, give or take a row, by a stream of the run's
    seed and `purpose`.
    """
    train = assignment.index("train")
    domain = np.asarray(assignment.interactions.domain)[train]
    stream = numpy_stream(assignment.run.seed, purpose, "folds")
    fold = np.empty(len(train), np.int64)
    for d in np.unique(domain):
        own = np.flatnonzero(domain == d)
        fold[stream.permutation(own)] = np.arange(len(own)) % folds
    return fold


def training_on(assignment: Assignment, kept: np.ndarray) -> Assignment:
    """The run with some of its training rows, `kept` (n,) of them true."""
    split = assignment.split.copy()
    split[assignment.index("train")[~kept]] = UNUSED
    return replace(assignment, split=split)
