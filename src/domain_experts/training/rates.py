"""The floors that every table shows: smoothed click rates, no training.

An id of a pooled field has no rate, and no row a weight.
"""

import numpy as np
from scipy.special import logit

from domain_experts.data.split import SPLITS
from domain_experts.errors import UserError
from domain_experts.training.assignment import Assignment, Outcome


def smoothed_rate_logits(assignment: Assignment, field: int) -> np.ndarray:
    """Log-odds of each row's id in a field, relative to the overall rate.

    The rate of an id is (clicks + m p) / (rows + m), p being the overall rate (`_overall`) and m
    the pseudo-rows of `rates.smoothing`.

    Returns:
        (N, T) log-odds minus the overall log-odds: 0 for an id without training rows.
    """
    m = assignment.settings.rates.smoothing
    train = assignment.index("train")
    codes = np.asarray(assignment.interactions.fields[:, field])
    labels = np.asarray(assignment.interactions.labels, np.float64)
    size = assignment.interactions.schema.sizes[field]
    rows = np.bincount(codes[train], minlength=size)
    logits = np.empty(labels.shape)
    for t, p in enumerate(_overall(assignment)):
        clicks = np.bincount(codes[train], weights=labels[train, t], minlength=size)
        rate = (clicks + m * p) / (rows + m)
        logits[:, t] = (logit(rate) - logit(p))[codes]
    return logits


def outcome(assignment: Assignment, relative: np.ndarray) -> Outcome:
    """Predictions from log-odds (N, T) relative to the overall rate."""
    _say_one_class(assignment)
    logits = (relative + logit(_overall(assignment))).astype(np.float32)
    return Outcome(
        logits={split: logits[assignment.index(split)] for split in SPLITS[1:]},
        state={},
        parameters={"backbone": 0, "experts": 0, "gate": 0},
    )


def _overall(assignment: Assignment) -> np.ndarray:
    """(T,) share of positives among the training rows.

    A class without rows counts as half a row, so that log-odds are finite.
    """
    labels = np.asarray(assignment.interactions.labels, np.float64)[assignment.index("train")]
    half = 0.5 / len(labels)
    shares: np.ndarray = np.clip(labels.mean(0), half, 1 - half)
    return shares


def _say_one_class(assignment: Assignment) -> None:
    labels = np.asarray(assignment.interactions.labels)[assignment.index("train")]
    for name, own in zip(assignment.interactions.schema.tasks, labels.T, strict=True):
        for label, missing in ((1, "positives"), (0, "negatives")):
            if label not in own:
                assignment.progress.say(
                    f"no {missing} of task {name} in training: its rates tell ids apart by their "
                    "rows alone"
                )


def field_named(assignment: Assignment, name: str) -> int:
    """Column of a field.

    Raises:
        UserError: the data set has no such field of one id a row.
    """
    fields = [field for field, _ in assignment.interactions.schema.single]
    if name not in fields:
        raise UserError(
            f"{assignment.run.dataset} has no field '{name}', which {assignment.run.arm} "
            f"needs; its fields are {', '.join(fields)}: name one of them so in its reader, or "
            "take the arm out of the experiment in params.yaml"
        )
    return fields.index(name)
