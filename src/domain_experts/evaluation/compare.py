"""Paired comparisons of runs on the same test rows, and the Bayes AUC of generated data."""

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from domain_experts.auc import Array, Floats, auc_by_domain
from domain_experts.evaluation.metrics import numbers, weighted_mean
from domain_experts.evaluation.rows import Row, Rows, by_domain
from domain_experts.runs import Run
from domain_experts.study import Study


def pairs(study: Study, runs: Iterable[Run]) -> list[tuple[Run, Run]]:
    """What experiments compare among some runs: each with a reference of its seed and split."""
    there = set(runs)
    named = itertools.chain(*map(study.comparisons, study.expected))
    return [*dict.fromkeys((run, other) for run, other, _ in named if {run, other} <= there)]


def compare(logits: Array, other: Array, rows: Rows, held_out: int | None = None) -> Iterator[Row]:
    """Differences to another run on the same test rows, each with DeLong's standard error.

    Of AUC by domain and task; of WAUC, macro AUC and, if a domain was held out, the AUC on it, by
    task and, of several, over all tasks as their plain mean. Each of these is a weighted sum of
    AUC, and so of what every row adds to it: the tasks of one row are summed before squaring, since
    they are correlated. Domains share no rows.

    Args:
        logits: (n, T).
        other: (n, T), what is compared with.
        rows: the n rows.
        held_out: the domain that came after training, if both runs had one and the same.
    """
    count = len(rows.domains)
    weights = {"wauc": np.bincount(rows.domain, minlength=count), "macro_auc": np.ones(count)}
    if held_out is not None:
        weights["new_domain_auc"] = np.arange(count) == held_out
    by_task = [
        paired(one, two, labels, rows.domain, count)
        for one, two, labels in zip(logits.T, other.T, rows.labels.T, strict=True)
    ]
    difference, influence = (np.column_stack(part) for part in zip(*by_task, strict=True))
    known = ~np.isnan(difference)
    influence = np.where(known[rows.domain], influence, 0)
    for t, task in enumerate(rows.tasks):
        variance = np.bincount(rows.domain, influence[:, t] ** 2, count)
        error = np.where(known[:, t], np.sqrt(variance), np.nan)
        for metric, values in (("auc_difference", difference[:, t]), ("auc_difference_se", error)):
            yield from by_domain(rows.domains, numbers(values), metric=metric, task=task)
    chosen = {task: [t] for t, task in enumerate(rows.tasks)}
    if len(rows.tasks) > 1:
        chosen[""] = [*range(len(rows.tasks))]
    for (metric, weight), (task, own) in itertools.product(weights.items(), chosen.items()):
        kept = weight[:, None] * known[:, own]
        if kept.any(axis=0).all():
            share = kept / kept.sum(axis=0) / len(own)
            value = np.sum(share * np.nan_to_num(difference[:, own]))
            error = np.sqrt(np.sum(np.sum(share[rows.domain] * influence[:, own], axis=1) ** 2))
            for name, found in (
                (f"{metric}_difference", value),
                (f"{metric}_difference_se", error),
            ):
                if not np.isnan(found):
                    yield {"task": task, "metric": name, "value": found}


def paired(
    scores: Array, other: Array, labels: Array, domain: Array, domains: int
) -> tuple[Floats, Floats]:
    """Differences in AUC by domain, and each row's part in their errors (DeLong et al. 1988).

    A row's structural component is the share of its domain's rows of the other class that it is
    ranked rightly against, from midranks (Sun and Xu 2014).

    Args:
        scores: (n,)
        other: (n,), what is compared with.
        labels: (n,) 0 or 1.
        domain: (n,) domain ids below `domains`.
        domains: number of domains D.

    Returns:
        (D,) differences, NaN where a domain has one class or no rows, and (n,) components less the
        mean of their class, scaled so that a domain's squares sum to the variance; NaN where a
        class has one row.
    """
    rows = pd.DataFrame({"domain": domain, "label": labels, "scores": scores, "other": other})
    by_class = rows.groupby(["domain", "label"])
    below = (
        rows.groupby("domain")[["scores", "other"]].rank() - by_class[["scores", "other"]].rank()
    )
    own = by_class["label"].transform("size")
    others = rows.groupby("domain")["label"].transform("size") - own
    component = (below["scores"] - below["other"]) / others * np.where(labels == 1, 1, -1)
    mean = component.groupby([domain, labels]).transform("mean")
    difference = component[labels == 1].groupby(domain[labels == 1]).mean()
    return (
        difference.reindex(range(domains)).to_numpy(),
        ((component - mean) / np.sqrt(own * (own - 1))).to_numpy(),
    )


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
