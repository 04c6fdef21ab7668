"""Exact AUC by domain, against scikit-learn's on the rows of each domain."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.effort import Effort
from benchmarks.results import OURS, Measurement, throughput
from benchmarks.timing import in_turns
from domain_experts.auc import auc_by_domain

SKLEARN = "scikit-learn"


def measure(effort: Effort) -> Iterator[Measurement]:
    """Rows a second; the two must agree."""
    rows = effort.rows // 5
    rng = np.random.default_rng(0)
    scores = rng.normal(size=rows).astype(np.float32)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-scores))).astype(np.uint8)
    for domains in effort.domains:
        domain = rng.integers(domains, size=rows).astype(np.int16)
        work = {
            OURS: partial(auc_by_domain, scores, labels, domain, domains),
            SKLEARN: partial(by_sklearn, scores, labels, domain, domains),
        }
        found, expected = (one() for one in work.values())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        seconds = in_turns(work, effort.rounds)
        yield from throughput("AUC", f"{domains} domains", seconds, rows, None, effort.threads)


def by_sklearn(
    scores: np.ndarray, labels: np.ndarray, domain: np.ndarray, domains: int
) -> np.ndarray:
    """AUC (D,) of each domain."""
    own = (domain == d for d in range(domains))
    return np.array([roc_auc_score(labels[rows], scores[rows]) for rows in own])
