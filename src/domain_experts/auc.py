"""AUC by domain: exact, as the released code bins it, and with DeLong's errors."""

from typing import Any

import numpy as np
import numpy.typing as npt

from domain_experts.errors import UserError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

# tf.metrics.auc of TensorFlow 1.12 with num_thresholds=500; its outermost two thresholds lie
# outside [0, 1] and separate nothing
BIN_EDGES = (np.arange(1, 499) / 499).astype(np.float32)


def auc_by_domain(scores: Array, labels: Array, domain: Array, domains: int) -> Floats:
    """Exact rank AUC of each domain, ties counted one half, by one sort.

    Args:
        scores: (N,) any increasing function of the predicted probability.
        labels: (N,) 0 or 1.
        domain: (N,) domain ids below `domains`.
        domains: number of domains D.

    Returns:
        (D,) AUC; NaN where a domain has one class or no rows.

    Raises:
        UserError: a score is NaN.
    """
    positives, negatives = _class_sizes(labels, domain, domains)
    hit = labels.astype(bool)
    ranks = _midranks(scores, domain)[hit]
    rank_sums = np.bincount(domain[hit], weights=ranks, minlength=domains)
    return ratio(rank_sums - positives * (positives + 1) / 2, positives * negatives)


def binned_auc_by_domain(
    probabilities: Array, labels: Array, domain: Array, domains: int
) -> Floats:
    """AUC by the 500-threshold trapezoid of tf.metrics.auc (TensorFlow 1.12), less its 1e-6.

    The trapezoid counts probabilities between two neighbouring thresholds as ties, so it is the
    exact AUC of the number of thresholds that a probability exceeds.

    Args:
        probabilities: (N,) in [0, 1]; compared in float32, as in the public code.
        labels: (N,) 0 or 1.
        domain: (N,) domain ids below `domains`.
        domains: number of domains D.

    Returns:
        (D,) AUC; NaN where a domain has one class or no rows.
    """
    return auc_by_domain(exceeded_thresholds(probabilities), labels, domain, domains)


def exceeded_thresholds(probabilities: Array) -> npt.NDArray[np.int64]:
    """How many of the thresholds of `binned_auc_by_domain` each probability exceeds."""
    return np.searchsorted(BIN_EDGES, probabilities.astype(np.float32), side="left")


def auc_covariance(
    scores: Array, labels: Array, domain: Array, domains: int
) -> tuple[Floats, Floats]:
    """AUC of M score vectors on the same rows, with DeLong's covariance (DeLong et al. 1988).

    Placement values come from midranks, in O(N log N) (Sun and Xu 2014).

    Args:
        scores: (N, M) one column a model.
        labels: (N,) 0 or 1.
        domain: (N,) domain ids below `domains`.
        domains: number of domains D.

    Returns:
        (D, M) AUC and (D, M, M) covariance. AUC is NaN where a domain has one class or no rows,
        the covariance where it has fewer than two rows of a class.
    """
    positives, negatives = _class_sizes(labels, domain, domains)
    hit = labels.astype(bool)
    others = np.where(hit, negatives[domain], positives[domain])
    own_class = 2 * domain.astype(np.int64) + hit
    placements = np.empty(scores.shape)
    for model in range(scores.shape[1]):
        among_all = _midranks(scores[:, model], domain)
        among_own = _midranks(scores[:, model], own_class)
        placements[:, model] = ratio(among_all - among_own, others)
    placements[~hit] = 1 - placements[~hit]
    mean_positive, covariance_positive = _moments(placements[hit], domain[hit], domains)
    _, covariance_negative = _moments(placements[~hit], domain[~hit], domains)
    return mean_positive, covariance_positive + covariance_negative


def _class_sizes(labels: Array, domain: Array, domains: int) -> tuple[Floats, Floats]:
    positives = np.bincount(domain, weights=labels, minlength=domains).astype(np.float64)
    return positives, np.bincount(domain, minlength=domains) - positives


def _midranks(scores: Array, group: Array) -> Floats:
    """(N,) rank of each score within its group, from 1; ties share their mean rank."""
    if np.isnan(scores).any():
        raise UserError(
            "predictions are NaN: the model that made them diverged; lower training.learning_rate "
            "if it was trained, rates.smoothing if it was not"
        )
    order = np.lexsort((scores, group))
    score, group = scores[order], group[order]
    new_group = np.diff(group, prepend=group[:1] - 1) != 0
    new_tie = new_group | np.append(True, score[1:] != score[:-1])[: len(score)]
    first = np.flatnonzero(new_tie)
    last = np.append(first[1:], len(score)) - 1
    start = np.maximum.accumulate(np.where(new_group, np.arange(len(score)), 0))
    ranks = np.empty(len(score))
    ranks[order] = ((first + last) / 2)[np.cumsum(new_tie) - 1] - start + 1
    return ranks


def _moments(values: Floats, domain: Array, domains: int) -> tuple[Floats, Floats]:
    """(D, M) means of the domains' values, and (D, M, M) covariance of those means."""
    models = values.shape[1]
    mean = np.full((domains, models), np.nan)
    covariance = np.full((domains, models, models), np.nan)
    for d in range(domains):
        own = values[domain == d]
        if len(own) > 0:
            mean[d] = own.mean(axis=0)
        if len(own) > 1:
            covariance[d] = np.atleast_2d(np.cov(own, rowvar=False)) / len(own)
    return mean, covariance


def ratio(numerator: Array, denominator: Array) -> Floats:
    """Quotient, NaN where the denominator is 0."""
    quotient: Floats = np.full(len(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def macro_auc(scores: Array, labels: Array, domain: Array, domains: int) -> float:
    """Unweighted mean of the exact AUC over the domains and tasks that have both classes.

    Args:
        scores: (N, T) logits or probabilities.
        labels: (N, T) 0 or 1.
        domain: (N,) domain ids below `domains`.
        domains: number of domains.

    Raises:
        UserError: no domain has both classes, or a score is NaN.
    """
    tasks = zip(scores.T, labels.T, strict=True)
    auc = np.concatenate([auc_by_domain(s, y, domain, domains) for s, y in tasks])
    known = auc[~np.isnan(auc)]
    if not len(known):
        raise UserError(
            "no domain has rows of both classes, so AUC is undefined: the data set or its "
            "validation share (data.validation_fraction in params.yaml) is too small"
        )
    return float(known.mean())
