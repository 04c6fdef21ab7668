"""Exact and binned AUC, and DeLong's errors, against scikit-learn and literal definitions."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from domain_experts.auc import auc_by_domain, auc_covariance, binned_auc_by_domain
from domain_experts.errors import UserError


@st.composite
def predictions(draw, domains=3):
    """Scores with many ties, labels and domains of the same rows."""
    rows = draw(st.integers(0, 40))
    scores = draw(hnp.arrays(np.float64, rows, elements=st.integers(-3, 3).map(float)))
    labels = draw(hnp.arrays(np.uint8, rows, elements=st.integers(0, 1)))
    domain = draw(hnp.arrays(np.int16, rows, elements=st.integers(0, domains - 1)))
    return scores, labels, domain


def random_predictions(seed, rows=400, domains=3, models=2):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows).astype(np.uint8)
    scores = np.round(rng.normal(size=(rows, models)) + 0.7 * labels[:, None], 1)
    return scores, labels, rng.integers(0, domains, rows).astype(np.int16)


@given(predictions())
def test_equals_scikit_learn_and_is_nan_for_one_class(data):
    scores, labels, domain = data
    auc = auc_by_domain(scores, labels, domain, 3)
    for d in range(3):
        own = domain == d
        if len(np.unique(labels[own])) < 2:
            assert np.isnan(auc[d])
        else:
            assert auc[d] == pytest.approx(roc_auc_score(labels[own], scores[own]), abs=1e-12)


@given(predictions())
def test_a_monotone_transform_changes_nothing(data):
    scores, labels, domain = data
    np.testing.assert_array_equal(
        auc_by_domain(scores, labels, domain, 3),
        auc_by_domain(np.exp(scores) + 5, labels, domain, 3),
    )


@given(predictions())
def test_flipped_labels_and_negated_scores_mirror_the_auc(data):
    scores, labels, domain = data
    auc = auc_by_domain(scores, labels, domain, 3)
    np.testing.assert_allclose(auc_by_domain(scores, 1 - labels, domain, 3), 1 - auc, atol=1e-12)
    np.testing.assert_allclose(auc_by_domain(-scores, labels, domain, 3), 1 - auc, atol=1e-12)


@given(predictions(), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(data, random):
    order = list(range(len(data[0])))
    random.shuffle(order)
    shuffled = (values[order] for values in data)
    np.testing.assert_array_equal(auc_by_domain(*data, 3), auc_by_domain(*shuffled, 3))


def test_constant_scores_give_one_half():
    labels, domain = np.array([0, 1, 1, 0, 1]), np.array([0, 0, 0, 1, 1])
    np.testing.assert_array_equal(auc_by_domain(np.zeros(5), labels, domain, 2), [0.5, 0.5])


def test_nan_scores_are_refused():
    with pytest.raises(UserError, match=r"training\.learning_rate"):
        auc_by_domain(np.array([0.1, np.nan]), np.array([0, 1]), np.array([0, 0]), 1)


def trapezoid(probabilities, labels):
    """tf.metrics.auc of TensorFlow 1.12, literally, with its epsilon."""
    thresholds = [-1e-7, *((i + 1) / 499 for i in range(498)), 1 + 1e-7]
    above = probabilities[None] > np.array(thresholds, np.float32)[:, None]
    recall = ((above & (labels == 1)).sum(1) + 1e-6) / ((labels == 1).sum() + 1e-6)
    fall_out = (above & (labels == 0)).sum(1) / ((labels == 0).sum() + 1e-6)
    return np.sum((fall_out[:-1] - fall_out[1:]) * (recall[:-1] + recall[1:]) / 2)


@given(
    hnp.arrays(np.float32, 30, elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.uint8, 30, elements=st.integers(0, 1)),
)
def test_binned_auc_is_the_trapezoid_of_tensorflow(probabilities, labels):
    assume(0 < labels.sum() < 30)
    binned = binned_auc_by_domain(probabilities, labels, np.zeros(30, int), 1)
    assert binned[0] == pytest.approx(trapezoid(probabilities, labels), abs=3e-6)


def test_binned_auc_ties_what_shares_a_bin():
    labels = np.array([0, 1])
    squeezed = np.array([0.1001, 0.1002])
    assert auc_by_domain(squeezed, labels, np.zeros(2, int), 1) == [1.0]
    assert binned_auc_by_domain(squeezed, labels, np.zeros(2, int), 1) == [0.5]


def slow_delong(scores, labels):
    """DeLong et al. 1988 by all pairs, for one domain."""
    placements = []
    for column in scores.T:
        pairs = column[labels == 1][:, None] - column[labels == 0][None]
        placements.append(np.where(pairs > 0, 1.0, np.where(pairs == 0, 0.5, 0.0)))
    by_positive = np.array([p.mean(axis=1) for p in placements])
    by_negative = np.array([p.mean(axis=0) for p in placements])
    covariance = np.cov(by_positive) / by_positive.shape[1]
    return by_positive.mean(1), covariance + np.cov(by_negative) / by_negative.shape[1]


@pytest.mark.parametrize("seed", range(3))
def test_delong_equals_the_definition_by_all_pairs(seed):
    scores, labels, domain = random_predictions(seed)
    auc, covariance = auc_covariance(scores, labels, domain, 3)
    for d in range(3):
        expected = slow_delong(scores[domain == d], labels[domain == d])
        np.testing.assert_allclose(auc[d], expected[0], rtol=1e-12)
        np.testing.assert_allclose(covariance[d], expected[1], rtol=1e-9)


@given(predictions())
def test_delong_gives_the_same_auc(data):
    scores, labels, domain = data
    auc, _ = auc_covariance(scores[:, None], labels, domain, 3)
    np.testing.assert_allclose(auc[:, 0], auc_by_domain(scores, labels, domain, 3), atol=1e-12)


def test_delong_error_is_the_spread_over_samples():
    draws = [random_predictions(seed, rows=200, domains=1) for seed in range(300)]
    estimates = [auc_covariance(*draw, 1) for draw in draws]
    differences = np.array([auc[0, 0] - auc[0, 1] for auc, _ in estimates])
    contrast = np.array([1, -1])
    variances = [contrast @ covariance[0] @ contrast for _, covariance in estimates]
    assert np.std(differences) == pytest.approx(np.sqrt(np.mean(variances)), rel=0.15)


def test_equal_models_differ_by_nothing():
    scores, labels, domain = random_predictions(0, models=1)
    _, covariance = auc_covariance(np.hstack([scores, scores]), labels, domain, 3)
    contrast = np.array([1, -1])
    np.testing.assert_allclose(contrast @ covariance @ contrast, 0, atol=1e-15)


def test_delong_is_nan_for_a_class_of_one_row():
    labels, domain = np.array([1, 0, 0]), np.zeros(3, int)
    auc, covariance = auc_covariance(np.array([[3.0], [2.0], [1.0]]), labels, domain, 2)
    assert auc[0, 0] == 1
    assert np.isnan(covariance).all()
    assert np.isnan(auc[1, 0])
