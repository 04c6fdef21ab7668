"""Paired comparisons of runs on the same test rows, and the Bayes AUC of generated data."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

from domain_experts.auc import Array, Floats, auc_by_domain, auc_covariance
from domain_experts.evaluation.metrics import numbers, weighted_mean
from domain_experts.evaluation.rows import Row, Rows
from domain_experts.runs import Run
from domain_experts.study import Study


def pairs(study: Study, runs: Iterable[Run]) -> list[tuple[Run, Run]]:
    """What experiments compare among some runs: each with a reference of its seed and split."""
    there = set(runs)
    named = itertools.chain(*map(study.comparisons, study.expected))
    return [*dict.fromkeys((run, other) for run, other, _ in named if {run, other} <= there)]


def compare(logits: Array, other: Array, rows: Rows) -> Iterator[Row]:
    """Differences in AUC by domain and in WAUC, with DeLong's standard errors, of each task.

    Domains share no rows, so the variance of WAUC is the sum of the domains' variances times their
    squared weights.

    Args:
        logits: (n, T).
        other: (n, T), what is compared with.
        rows: the n rows.
    """
    counts = np.bincount(rows.domain, minlength=len(rows.domains))
    for t, task in enumerate(rows.tasks):
        scores = np.column_stack([logits[:, t], other[:, t]])
        auc, covariance = auc_covariance(scores, rows.labels[:, t], rows.domain, len(rows.domains))
        difference = auc[:, 0] - auc[:, 1]
        variance = covariance[:, 0, 0] + covariance[:, 1, 1] - 2 * covariance[:, 0, 1]
        # rounding may leave a variance of 0 slightly negative
        variance = np.maximum(variance, 0)
        about = {"task": task}
        yield from _by_domain(rows, difference, about | {"metric": "auc_difference"})
        yield from _by_domain(rows, np.sqrt(variance), about | {"metric": "auc_difference_se"})
        whole = {
            "wauc_difference": weighted_mean(difference, counts),
            "wauc_difference_se": _wauc_error(difference, variance, counts),
        }
        yield from (about | {"metric": m, "value": v} for m, v in whole.items() if not np.isnan(v))


def bayes(rows: Rows) -> Iterator[Row]:
    """By task, the AUC of the true probabilities of generated data: no model can expect more."""
    if rows.truth is None:
        return
    counts = np.bincount(rows.domain, minlength=len(rows.domains))
    for task, likely, labels in zip(
        rows.tasks, rows.truth.reshape(rows.labels.shape).T, rows.labels.T, strict=True
    ):
        auc = auc_by_domain(likely, labels, rows.domain, len(rows.domains))
        about = {"split": "test", "task": task}
        yield from _by_domain(rows, auc, about | {"metric": "bayes_auc"})
        wauc = weighted_mean(auc, counts)
        if not np.isnan(wauc):
            yield about | {"metric": "bayes_wauc", "value": wauc}


def _by_domain(rows: Rows, values: Floats, about: Row) -> Iterator[Row]:
    for name, value in zip(rows.domains, numbers(values), strict=True):
        if value is not None:
            yield about | {"domain": name, "value": value}


def _wauc_error(difference: Floats, variance: Floats, rows: Array) -> float:
    known = ~np.isnan(difference)
    weights = rows[known] / max(rows[known].sum(), 1)
    return float(np.sqrt(np.sum(weights**2 * variance[known]))) if known.any() else np.nan
