"""Metrics of a run, against scikit-learn and by hand."""

import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from domain_experts.auc import macro_auc
from domain_experts.errors import UserError
from domain_experts.evaluation.metrics import evaluate

NAMES = ("big", "small", "clicked")


@pytest.fixture
def data():
    """Three domains of two tasks; the third has only positives in the first task."""
    rng = np.random.default_rng(3)
    domain = rng.choice(3, 500, p=(0.7, 0.2, 0.1)).astype(np.int16)
    labels = rng.integers(0, 2, (500, 2)).astype(np.uint8)
    labels[domain == 2, 0] = 1
    return (rng.normal(size=(500, 2)) + labels).astype(np.float32), labels, domain


def test_agrees_with_scikit_learn(data):
    logits, labels, domain = data
    result = evaluate(*data, NAMES, ("click", "like"), binned=False)
    for t, task in enumerate(("click", "like")):
        y, z = labels[:, t], logits[:, t].astype(float)
        found = result[task]
        known = [0, 1] if t == 0 else [0, 1, 2]
        auc = [roc_auc_score(y[domain == d], z[domain == d]) for d in known]
        rows = np.bincount(domain)
        assert found["wauc"] == pytest.approx(np.average(auc, weights=rows[known]))
        assert found["macro_auc"] == pytest.approx(np.mean(auc))
        assert found["macro_auc"] == pytest.approx(macro_auc(z[:, None], y[:, None], domain, 3))
        assert found["log_loss"] == pytest.approx(log_loss(y, expit(z)))
        assert found["calibration"] == pytest.approx(expit(z).mean() / y.mean())
        assert found["by_domain"]["rows"] == rows.tolist()
        for d in range(3):
            own = domain == d
            by_domain = {key: values[d] for key, values in found["by_domain"].items()}
            assert by_domain["positives"] == y[own].sum()
            assert by_domain["log_loss"] == pytest.approx(
                log_loss(y[own], expit(z[own]), labels=[0, 1])
            )


def test_a_domain_with_one_class_is_left_out_and_named(data):
    found = evaluate(*data, NAMES, ("click", "like"), binned=True)
    assert found["click"]["left_out"] == ["clicked"]
    assert found["click"]["by_domain"]["auc"][2] is None
    assert found["click"]["by_domain"]["binned_auc"][2] is None
    assert found["like"]["left_out"] == []


def test_an_empty_domain_is_left_out_and_named(data):
    found = evaluate(*data, (*NAMES, "empty"), ("click", "like"), binned=False)["like"]
    assert found["left_out"] == ["empty"]
    assert found["by_domain"]["rows"][3] == 0
    assert found["by_domain"]["log_loss"][3] is None


def test_nothing_is_nan_in_json_without_a_single_positive():
    result = evaluate(
        np.zeros((4, 1), np.float32),
        np.zeros((4, 1), np.uint8),
        np.zeros(4, int),
        ["all"],
        ["click"],
        binned=True,
    )
    json.dumps(result, allow_nan=False)
    assert result["click"]["wauc"] is None
    assert result["click"]["calibration"] is None
    assert result["click"]["log_loss"] == pytest.approx(np.log(2))


def test_auc_tells_apart_logits_that_the_sigmoid_ties():
    logits = np.array([[40.0], [41.0]], np.float32)
    labels = np.array([[0], [1]], np.uint8)
    found = evaluate(logits, labels, np.zeros(2, int), ["all"], ["click"], binned=True)["click"]
    assert (found["wauc"], found["binned_wauc"]) == (1.0, 0.5)
    assert found["log_loss"] == pytest.approx(20)


def test_macro_auc_without_any_two_class_domain_is_refused():
    with pytest.raises(UserError, match="both classes"):
        macro_auc(np.zeros((2, 1)), np.array([[0], [1]]), np.array([0, 1]), 2)


def test_macro_auc_is_the_mean_over_domains_and_tasks_with_both_classes(data):
    logits, labels, domain = data
    cells = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1)]
    aucs = [roc_auc_score(labels[domain == d, t], logits[domain == d, t]) for d, t in cells]
    assert macro_auc(logits, labels, domain, 3) == pytest.approx(np.mean(aucs))
