"""Paired differences and their errors, against slow DeLong and against the bootstrap."""

from dataclasses import replace

import numpy as np
import pytest

from domain_experts.auc import auc_covariance, macro_auc
from domain_experts.evaluation.compare import compare, own_errors, ranked
from domain_experts.evaluation.rows import Rows


def made(n, seed=0, users=None):
    """Logits of two models and rows of two domains whose two tasks are strongly correlated."""
    rng = np.random.default_rng(seed)
    domain = rng.choice(2, n, p=(0.7, 0.3)).astype(np.int16)
    user = rng.permutation(n) if users is None else rng.integers(0, users, n)
    # with several rows a user, both labels and scores are alike within one
    taste, bias = rng.normal(size=(2, n))[:, user] * (users is not None)
    liked = rng.normal(size=n) + taste
    labels = np.column_stack([liked > 0, liked + rng.normal(0, 0.3, n) > 0.3]).astype(np.uint8)
    model, other = (labels + rng.normal(size=n)[:, None] * scale for scale in (1.0, 1.3))
    # few values, so that there are ties
    scores = tuple(s.round(1).astype(np.float32) for s in (model + bias[:, None], other))
    return *scores, Rows(labels, domain, None, ("large", "small"), ("click", "like"), user)


def found(model, other, rows, held_out=None, **wanted):
    rows = compare(ranked(model, rows), ranked(other, rows), rows, held_out)
    chosen = [r for r in rows if all(r.get(name, "") == value for name, value in wanted.items())]
    return [row["value"] for row in chosen]


def slow_delong(scores, other, labels):
    """Difference in AUC of one domain, and its variance: every pair of rows, no ranks."""
    parts = []
    for s in (scores, other):
        up, down = s[labels == 1][:, None], s[labels == 0][None]
        parts.append((up > down) + 0.5 * (up == down))
    right = parts[0] - parts[1]
    components = right.mean(axis=1), right.mean(axis=0)
    return right.mean(), sum(np.var(c, ddof=1) / len(c) for c in components)


@pytest.mark.parametrize(
    ("metric", "weights"), [("wauc", "rows"), ("macro_auc", (1, 1)), ("new_domain_auc", (0, 1))]
)
def test_one_task_agrees_with_delong_over_all_pairs(metric, weights):
    model, other, rows = made(150)
    weights = np.bincount(rows.domain) if weights == "rows" else np.array(weights)
    share = weights / weights.sum()
    for t, task in enumerate(rows.tasks):
        own = [
            slow_delong(model[at, t], other[at, t], rows.labels[at, t])
            for at in (rows.domain == 0, rows.domain == 1)
        ]
        difference, variance = np.array(own).T
        args = (model, other, rows, 1)
        assert found(*args, metric="auc_difference", task=task) == pytest.approx(difference)
        errors = found(*args, metric="auc_difference_se", task=task)
        assert errors == pytest.approx(np.sqrt(variance))
        value = found(*args, metric=f"{metric}_difference", task=task)
        assert value == [pytest.approx(share @ difference)]
        error = found(*args, metric=f"{metric}_difference_se", task=task)
        assert error == [pytest.approx(np.sqrt(share**2 @ variance))]


def test_the_error_over_correlated_tasks_is_that_of_the_bootstrap():
    model, other, rows = made(400)
    rng = np.random.default_rng(1)

    def difference(at):
        of = rows.labels[at], rows.domain[at], 2
        return macro_auc(model[at], *of) - macro_auc(other[at], *of)

    drawn = [difference(rng.integers(0, 400, 400)) for _ in range(1500)]
    whole = {"task": "", "domain": ""}
    error = found(model, other, rows, metric="macro_auc_difference_se", **whole)
    assert error == [pytest.approx(np.std(drawn), rel=0.1)]
    apart = [
        found(model, other, rows, metric="macro_auc_difference_se", task=t) for t in rows.tasks
    ]
    # as if tasks were independent: far too little
    assert np.hypot(*apart).item() / 2 < 0.85 * error[0]
    value = found(model, other, rows, metric="macro_auc_difference", **whole)
    assert value == [pytest.approx(difference(np.arange(400)))]


def test_where_each_user_has_one_row_the_error_by_user_is_delongs():
    args = made(200)
    for metric in ("auc", "wauc", "macro_auc"):
        by_row = found(*args, metric=f"{metric}_difference_se")
        assert found(*args, metric=f"{metric}_difference_user_se") == pytest.approx(by_row)


def test_the_error_by_user_is_that_of_the_bootstrap_by_user():
    model, other, rows = made(1200, users=60)
    rng = np.random.default_rng(1)
    own = [np.flatnonzero(rows.user == user) for user in range(60)]
    drawn = []
    for _ in range(1000):
        at = np.concatenate([own[user] for user in rng.integers(0, 60, 60)])
        of = rows.labels[at], rows.domain[at], 2
        drawn.append(macro_auc(model[at], *of) - macro_auc(other[at], *of))
    whole = {"task": "", "domain": ""}
    error = found(model, other, rows, metric="macro_auc_difference_user_se", **whole)
    assert error == [pytest.approx(np.std(drawn), rel=0.1)]
    by_row = found(model, other, rows, metric="macro_auc_difference_se", **whole)
    # as if rows of a user were independent: far too little
    assert by_row[0] < 0.7 * error[0]


def test_without_users_there_is_no_error_by_user():
    model, other, rows = made(100)
    metrics = {row["metric"] for row in compare(ranked(model, rows), ranked(other, rows), rows)}
    nameless = replace(rows, user=None)
    one, two = ranked(model, nameless), ranked(other, nameless)
    left = {row["metric"] for row in [*compare(one, two, nameless), *own_errors(one, nameless)]}
    assert {name for name in metrics if "user" not in name} | {"wauc_se", "macro_auc_se"} == left


def test_the_errors_of_one_run_are_those_of_the_bootstrap():
    model, _, rows = made(1200, users=60)
    rng = np.random.default_rng(1)
    own = [np.flatnonzero(rows.user == user) for user in range(60)]
    drawn = {"se": [], "user_se": []}
    for _ in range(600):
        at = rng.integers(0, 1200, 1200)
        drawn["se"].append(macro_auc(model[at], rows.labels[at], rows.domain[at], 2))
        at = np.concatenate([own[user] for user in rng.integers(0, 60, 60)])
        drawn["user_se"].append(macro_auc(model[at], rows.labels[at], rows.domain[at], 2))
    errors = {row["metric"]: row["value"] for row in own_errors(ranked(model, rows), rows)}
    assert set(errors) == {"wauc_se", "wauc_user_se", "macro_auc_se", "macro_auc_user_se"}
    for name, values in drawn.items():
        assert errors[f"macro_auc_{name}"] == pytest.approx(np.std(values), rel=0.1)


def test_a_domain_of_one_user_or_one_positive_has_no_error():
    model, other, rows = made(60, users=20)
    rows.user[rows.domain == 1] = 3
    small = np.flatnonzero(rows.domain == 1)
    for domain in ("large", "small"):
        for metric in ("auc_difference_se", "auc_difference_user_se"):
            errors = found(model, other, rows, metric=metric, domain=domain)
            assert len(errors) == (2 if domain == "large" else 0)
    rows.user[small] = np.arange(len(small))
    rows.labels[small, 0] = np.arange(len(small)) == 0
    for metric in ("auc_difference_se", "auc_difference_user_se"):
        assert found(model, other, rows, metric=metric, domain="small", task="click") == []
        assert len(found(model, other, rows, metric=metric, domain="small", task="like")) == 1
    assert len(found(model, other, rows, metric="auc_difference", domain="small")) == 2


def test_what_is_undefined_has_no_row():
    model, other, rows = made(60)
    rows.labels[rows.domain == 1, 0] = 1
    auc, covariance = auc_covariance(
        np.column_stack([model[:, 0], other[:, 0]]), rows.labels[:, 0], rows.domain, 2
    )
    assert np.isnan(auc[1]).all()
    first = {"task": "click"}
    assert len(found(model, other, rows, metric="auc_difference", **first)) == 1
    expected = np.sqrt(covariance[0] @ [1, -1] @ [1, -1])
    for metric in ("wauc", "macro_auc"):
        error = found(model, other, rows, metric=f"{metric}_difference_se", **first)
        assert error == [pytest.approx(expected)]
    new = {"metric": "new_domain_auc_difference"}
    assert found(model, other, rows, 1, task="click", **new) == []
    assert len(found(model, other, rows, 1, task="like", **new)) == 1
    assert found(model, other, rows, 1, task="", **new) == []
