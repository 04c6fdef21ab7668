"""Paired comparisons of runs on the same test rows, and the Bayes AUC of generated data."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from domain_experts.auc import Array, Floats, auc_by_domain
from domain_experts.evaluation.metrics import numbers, weighted_mean
from domain_experts.evaluation.rows import Row, Rows, by_domain
from domain_experts.registry import BEST_FLOOR
from domain_experts.runs import Run
from domain_experts.study import Study


@dataclass(frozen=True)
class Ranked:
    """A run's AUC by domain and task, and each row's part in its error (DeLong et al. 1988)."""

    auc: Floats
    """(D, T); NaN where a domain has one class or no rows."""
    parts: Floats
    """(n, T) structural components less the mean of their class, scaled so that a domain's squares
    sum to the variance; NaN where a class has one row."""

    def __sub__(self, other: "Ranked") -> "Ranked":
        """The difference to another run on the same rows."""
        return Ranked(self.auc - other.auc, self.parts - other.parts)


class Summary(NamedTuple):
    """A metric of one task or, with an empty name, over all; errors are NaN where undefined."""

    task: str
    metric: str
    value: float
    error: float
    user_error: float


def pairs(study: Study, runs: Iterable[Run]) -> dict[tuple[Run, Run], bool]:
    """What experiments compare among some runs: each with a reference of its seed and split.

    Returns:
        The pairs, those of a run together, and whether an experiment names the reference: one of
        several floors it does not.
    """
    there, found = set(runs), dict[tuple[Run, Run], bool]()
    named = itertools.chain(*map(study.comparisons, study.expected))
    for run, other, reference in named:
        if {run, other} <= there:
            found[run, other] = found.get((run, other), False) or reference != BEST_FLOOR
    return dict(sorted(found.items(), key=lambda item: item[0][0].path))


def compare(
    one: Ranked, other: Ranked, rows: Rows, held_out: int | None = None, domains: bool = True
) -> Iterator[Row]:
    """Differences to another run on the same test rows, each with its standard errors.

    DeLong's (`_se`) takes rows as independent. `_user_se` takes all rows of a user as one
    observation, those in several domains too: what rows add is summed by user before squaring,
    which is the bootstrap by user to first order (Obuchowski 1997).

    Args:
        one: of the n rows.
        other: of the same rows, what is compared with.
        rows: the n rows.
        held_out: the domain that came after training, if both runs had one and the same.
        domains: give the differences of single domains, too.
    """
    difference = one - other
    if domains:
        yield from _by_domain(difference, rows)
    for found in summaries(difference, rows, held_out):
        named = {
            f"{found.metric}_difference": found.value,
            f"{found.metric}_difference_se": found.error,
            f"{found.metric}_difference_user_se": found.user_error,
        }
        for metric, value in named.items():
            if not np.isnan(value):
                yield {"task": found.task, "metric": metric, "value": value}


def own_errors(one: Ranked, rows: Rows) -> Iterator[Row]:
    """Standard errors of a run's own WAUC and macro AUC, over all tasks: `_se` and `_user_se`."""
    last = "" if len(rows.tasks) > 1 else rows.tasks[0]
    for found in summaries(one, rows):
        errors = {"se": found.error, "user_se": found.user_error}
        for name, value in errors.items():
            if found.task == last and not np.isnan(value):
                yield {"task": last, "metric": f"{found.metric}_{name}", "value": value}


def summaries(of: Ranked, rows: Rows, held_out: int | None = None) -> Iterator[Summary]:
    """WAUC, macro AUC and, of a domain that was held out, its AUC, with their errors.

    By task and, of several, over all tasks as their plain mean. Each of these is a weighted sum of
    AUC, and so of what every row adds to it: the tasks of one row are summed before squaring, since
    they are correlated.
    """
    count = len(rows.domains)
    weights = {"wauc": np.bincount(rows.domain, minlength=count), "macro_auc": np.ones(count)}
    if held_out is not None:
        weights["new_domain_auc"] = np.arange(count) == held_out
    known = ~np.isnan(of.auc)
    parts = np.where(known[rows.domain], of.parts, 0)
    chosen = {task: [t] for t, task in enumerate(rows.tasks)}
    if len(rows.tasks) > 1:
        chosen[""] = [*range(len(rows.tasks))]
    for (metric, weight), (task, own) in itertools.product(weights.items(), chosen.items()):
        kept = weight[:, None] * known[:, own]
        if kept.any(axis=0).all():
            share = kept / kept.sum(axis=0) / len(own)
            value = np.sum(share * np.nan_to_num(of.auc[:, own]))
            added = np.sum(share[rows.domain] * parts[:, own], axis=1)
            by_user = np.nan if rows.user is None else _norm(np.bincount(rows.user, added))
            yield Summary(task, metric, float(value), _norm(added), by_user)


def _norm(values: Array) -> float:
    return float(np.sqrt(np.sum(values**2)))


def _by_domain(of: Ranked, rows: Rows) -> Iterator[Row]:
    """Differences of single domains, by task, with their errors.

    Rows of a single user, or a single row of a class, tell nothing of an error.
    """
    count = len(rows.domains)
    # whose parts are summed before squaring: a row's, a user's
    whose = {"auc_difference_se": np.arange(len(rows.domain))}
    if rows.user is not None:
        whose["auc_difference_user_se"] = rows.user.astype(np.int64)
    groups = {
        metric: np.unique(ids * count + rows.domain, return_inverse=True)
        for metric, ids in whose.items()
    }
    several = np.all(
        [np.bincount(ids % count, minlength=count) > 1 for ids, _ in groups.values()], 0
    )
    for task, auc, parts in zip(rows.tasks, of.auc.T, of.parts.T, strict=True):
        found = {"auc_difference": auc}
        for metric, (ids, place) in groups.items():
            variance = np.bincount(ids % count, np.bincount(place, parts) ** 2, count)
            found[metric] = np.where(several & ~np.isnan(auc), np.sqrt(variance), np.nan)
        for metric, values in found.items():
            yield from by_domain(rows.domains, numbers(values), metric=metric, task=task)


def ranked(logits: Array, rows: Rows) -> Ranked:
    """AUC of scores, and each row's part in its error.

    A row's structural component is the share of its domain's rows of the other class that it is
    ranked rightly against, from midranks (Sun and Xu 2014).

    Args:
        logits: (n, T) any increasing function of the predicted probabilities.
        rows: the n rows.
    """
    tasks = zip(logits.T, rows.labels.T, strict=True)
    auc, parts = zip(*(_ranked(*task, rows) for task in tasks), strict=True)
    return Ranked(np.column_stack(auc), np.column_stack(parts))


def _ranked(scores: Array, labels: Array, rows: Rows) -> tuple[Floats, Floats]:
    """(D,) AUC and (n,) parts of one task."""
    auc, parts = np.full(len(rows.domains), np.nan), np.full(len(scores), np.nan)
    classes = 2 * rows.domain.astype(np.int64) + (labels == 1)
    above = _midranks(scores, rows.domain.astype(np.int64)) - _midranks(scores, classes)
    for d in range(len(rows.domains)):
        members = [np.flatnonzero(classes == 2 * d + positive) for positive in (1, 0)]
        sizes = [len(own) for own in members]
        if all(sizes):
            for own, others, sign in zip(members, reversed(sizes), (1, -1), strict=True):
                of_others = above[own] / others
                if sign == 1:
                    auc[d] = of_others.mean()
                spread = np.sqrt(len(own) * (len(own) - 1)) or np.nan
                parts[own] = sign * (of_others - of_others.mean()) / spread
    return auc, parts


def _midranks(scores: Array, group: Array) -> Floats:
    """(n,) rank of each score within its group; ties share their mean rank."""
    place = np.unique(scores, return_inverse=True)[1]
    sizes = np.bincount(group)
    ranks: Floats = rankdata(group * len(scores) + place)
    return ranks - (np.cumsum(sizes) - sizes)[group]


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
        yield from by_domain(rows.domains, numbers(auc), metric="bayes_auc", **about)
        wauc = weighted_mean(auc, counts)
        if not np.isnan(wauc):
            yield about | {"metric": "bayes_wauc", "value": wauc}
