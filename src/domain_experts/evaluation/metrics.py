"""The metrics of a run: AUC, log loss and calibration, by domain and over all."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
from domain_experts.evaluation.registry import METRICS


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
        task: _evaluate_task(
            Predictions(
                logits[:, t].astype(np.float64), labels[:, t], domain, len(domains), binned
            ),
            domains,
        )
        for t, task in enumerate(tasks)
    }


def weighted_mean(values: Floats, weights: Array) -> float:
    """Mean of the values that are known, weighted; NaN if none is."""
    known = ~np.isnan(values)
    return float(np.average(values[known], weights=weights[known])) if known.any() else np.nan


def numbers(values: Floats) -> list[float | None]:
    """For JSON: floats, None for NaN."""
    return [number(value) for value in values]


def number(value: float | None) -> float | None:
    """For JSON: a float, None for NaN."""
    return None if value is None or np.isnan(value) else float(value)


@dataclass(frozen=True)
class Predictions:
    """One task's predictions of n rows in D domains, and what its metrics are made of."""

    logits: Floats
    """(n,)"""
    labels: Array
    domain: Array
    count: int
    """D"""
    binned: bool

    @cached_property
    def probabilities(self) -> Floats:
        """(n,) probabilities of a positive label."""
        return np.asarray(expit(self.logits))

    @cached_property
    def losses(self) -> Floats:
        """(n,) cross-entropy, in nats."""
        return np.asarray(np.logaddexp(0, self.logits) - self.labels * self.logits)

    @cached_property
    def rows(self) -> Array:
        """(D,) rows of the domains."""
        return np.bincount(self.domain, minlength=self.count)

    @cached_property
    def positives(self) -> Floats:
        """(D,) rows with a positive label."""
        return self.total(self.labels)

    @cached_property
    def predicted(self) -> Floats:
        """(D,) rows that are expected to have one."""
        return self.total(self.probabilities)

    @cached_property
    def auc(self) -> Floats:
        """(D,) exact AUC."""
        return self._delong[0][:, 0]

    @cached_property
    def auc_se(self) -> Floats:
        """(D,) DeLong's standard errors."""
        return np.asarray(np.sqrt(self._delong[1][:, 0, 0]))

    @cached_property
    def binned_auc(self) -> Floats:
        """(D,) AUC of 500 thresholds; NaN if it is not wanted."""
        if not self.binned:
            return np.full(self.count, np.nan)
        return binned_auc_by_domain(self.probabilities, self.labels, self.domain, self.count)

    @cached_property
    def _delong(self) -> tuple[Floats, Floats]:
        return auc_covariance(self.logits[:, None], self.labels, self.domain, self.count)

    def total(self, values: Array) -> Floats:
        """(D,) sums of (n,) values."""
        return np.bincount(self.domain, values, self.count).astype(np.float64)

    def by_domain(self, values: Array) -> Floats:
        """(D,) means of (n,) values."""
        return ratio(self.total(values), self.rows)

    def mean(self, values: Floats, weights: Array | None = None) -> float:
        """Mean of (D,) values that are known, all alike or weighted; NaN if none is."""
        return weighted_mean(values, np.ones(self.count) if weights is None else weights)


def _evaluate_task(of: Predictions, domains: Sequence[str]) -> dict[str, Any]:
    by_domain = {
        "rows": of.rows.tolist(),
        "positives": of.positives.astype(int).tolist(),
        "auc": numbers(of.auc),
        "auc_se": numbers(of.auc_se),
        "log_loss": numbers(of.by_domain(of.losses)),
        "calibration": numbers(ratio(of.predicted, of.positives)),
        "binned_auc": numbers(of.binned_auc),
    }
    return {
        **{name: number(metric(of)) for name, metric in METRICS.items()},
        "by_domain": by_domain,
        "left_out": [name for name, value in zip(domains, of.auc, strict=True) if np.isnan(value)],
    }
