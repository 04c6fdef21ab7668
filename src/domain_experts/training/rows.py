"""Which training rows a leg may use."""

from dataclasses import replace

import numpy as np

from domain_experts.data.split import UNUSED
from domain_experts.training.assignment import Assignment
from domain_experts.training.streams import numpy_stream


def held_out(assignment: Assignment) -> Assignment:
    """The run with the held-out share of each domain's training rows as its training rows."""
    return _training_on(assignment, _chosen(assignment))


def without_held_out(assignment: Assignment) -> Assignment:
    """The run with the other training rows."""
    chosen = _chosen(assignment)
    return _training_on(assignment, np.setdiff1d(assignment.index("train"), chosen))


def _chosen(assignment: Assignment) -> np.ndarray:
    """The held-out rows of a seed: `held_out.share` of each domain's training rows, rounded."""
    train, share = assignment.index("train"), assignment.settings.held_out.share
    domain = np.asarray(assignment.interactions.domain)[train]
    stream = numpy_stream(assignment.run.seed, "held_out")
    parts = []
    for d in np.unique(domain):
        rows = train[domain == d]
        parts.append(stream.permutation(rows)[: round(share * len(rows))])
    return np.concatenate(parts)


def _training_on(assignment: Assignment, rows: np.ndarray) -> Assignment:
    split = assignment.split.copy()
    split[assignment.index("train")] = UNUSED
    split[rows] = 0
    return replace(assignment, split=split)
