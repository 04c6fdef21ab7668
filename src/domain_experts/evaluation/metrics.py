"""The metrics of a run: AUC, log loss and calibration, by domain and over all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from domain_experts.auc import (
    Array,
    Floats,
    auc_covariance,
    binned_auc_by_domain,
    ratio,
)


def evaluate(
    logits: Array,
    labels: Array,
    domain: Array,
    domains: Sequence[str],
    tasks: Sequence[str],
    binned: bool,
) -> dict[str, Any]:
    """Evaluate predictions, task by task.

    WAUC weights a domain's AUC by its rows (MLoRA, arXiv 2408.08913). AUC is exact, on logits.
    Domains with one class or no rows have no AUC: WAUC and macro AUC leave them out, and
    `left_out` names them. Calibration is mean prediction over mean label.

    Args:
        logits: (N, T).
        labels: (N, T) 0 or 1.
        domain: (N,) ids into `domains`.
        domains: names of the D domains.
        tasks: names of the T tasks.
        binned: also report the 500-threshold AUC of the public code.

    Returns:
        Plain dictionary; what is undefined is None. See docs/metrics.md.

    Raises:
        UserError: a logit is NaN.
    """
    return {
        task: _evaluate_task(logits[:, t], labels[:, t], domain, domains, binned)
        for t, task in enumerate(tasks)
    }


def weighted_mean(values: Floats, weights: Array) -> float:
    """Mean of the values that are known, weighted; NaN if none is."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known])) if known.any() else np.nan


def numbers(values: Floats) -> list[float | None]:
    """For JSON: floats, None for NaN."""
    return [number(value) for value in values]


def number(value: float) -> float | None:
    """For JSON: a float, None for NaN."""
    return None if np.isnan(value) else float(value)


def _evaluate_task(
    logits: Array, labels: Array, domain: Array, domains: Sequence[str], binned: bool
) -> dict[str, Any]:
    count = len(domains)
    logits = logits.astype(np.float64)
    probabilities = expit(logits)
    losses = np.logaddexp(0, logits) - labels * logits
    auc, covariance = auc_covariance(logits[:, None], labels, domain, count)
    auc = auc[:, 0]
    rows = np.bincount(domain, minlength=count)
    positives, predicted, loss = (
        np.bincount(domain, weights=values, minlength=count)
        for values in (labels, probabilities, losses)
    )
    by_domain: dict[str, Any] = {
        "rows": rows.tolist(),
        "positives": positives.astype(int).tolist(),
        "auc": numbers(auc),
        "auc_se": numbers(np.sqrt(covariance[:, 0, 0])),
        "log_loss": numbers(ratio(loss, rows)),
        "calibration": numbers(ratio(predicted, positives)),
    }
    result: dict[str, Any] = {
        "wauc": number(weighted_mean(auc, rows)),
        "macro_auc": number(weighted_mean(auc, np.ones(count))),
        "log_loss": number(weighted_mean(ratio(loss, rows), rows)),
        "calibration": float(predicted.sum() / positives.sum()) if positives.any() else None,
        "by_domain": by_domain,
        "left_out": [name for name, value in zip(domains, auc, strict=True) if np.isnan(value)],
    }
    if binned:
        binned_auc = binned_auc_by_domain(probabilities, labels, domain, count)
        by_domain["binned_auc"] = numbers(binned_auc)
        result["binned_wauc"] = number(weighted_mean(binned_auc, rows))
    return result
