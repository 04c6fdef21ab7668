"""The arms as scikit-learn estimators."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

import domain_experts as de
from domain_experts.data.split import VALIDATION
from domain_experts.digest import source_modules
from domain_experts.errors import UserError
from domain_experts.estimators import ESTIMATORS, Bar
from domain_experts.fitting import held_out
from domain_experts.registry import ARMS
from domain_experts.tables import columns_of

TINY = {
    "model.hidden": [8],
    "model.embedding_dim": 2,
    "model.dropout": 0.0,
    "training.batch_size": 64,
    "training.learning_rate": 0.05,
    "star.embedding_dim": 4,
    "multi_model.embedding_dim": 4,
    "multi_model.hidden": [8, 8, 8, 4],
    "multi_model.autoifs.hidden": [8, 4],
    "multi_model.autoifs.domain_width": 4,
    "multi_model.autoifs.search_epochs": 1,
    "multi_model.autoifs.rewind": 1,
    "trees.max_rounds": 10,
}
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "rows are drawn into batches and validation "
    "rows: a row of weight 2 is drawn once, the same row twice is drawn twice",
}


# of rows that are easy to rank the first epoch is the best: its steps must suffice
MORE_STEPS = TINY | {"training.batch_size": 16}


@parametrize_with_checks(
    [
        de.FactorisationMachine(epochs=6, settings=MORE_STEPS),
        de.Base(epochs=6, settings=MORE_STEPS),
        de.MoEMLoRA(epochs=6, settings=MORE_STEPS),
    ],
    expected_failed_checks=lambda _: EXPECTED,
    xfail_strict=True,
)
def test_scikit_learn_finds_an_estimator(estimator, check):
    check(estimator)


def rows(n=900, seed=0):
    """Ids, a domain, a number and a list, and labels that depend on all of them."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "user": rng.integers(0, 30, n),
            "item": rng.integers(0, 20, n).astype(str),
            "category": rng.choice(["a", "b", "c"], n),
            "price": rng.random(n),
            "new": rng.random(n) < 0.5,
            "tags": [
                list(rng.choice(["x", "y", "z"], k, replace=False)) for k in rng.integers(0, 3, n)
            ],
        }
    )
    score = 0.1 * (table["user"] - 15) + 2 * table["price"] - 1 + rng.normal(0, 0.5, n)
    return table, (score > 0).astype(int).rename("click")


X, Y = rows()
BOTH = pd.DataFrame({"click": Y, "buy": Y & X["new"]})


def small(name, **changed):
    """An estimator of a name that trains for a moment."""
    known = ESTIMATORS[name](settings=TINY).get_params()
    return ESTIMATORS[name](
        settings=TINY, **({"epochs": 2} if "epochs" in known else {}), **changed
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_arm_is_fitted_kept_and_scores_as_before(name, tmp_path):
    model = small(name).fit(X, BOTH, domain="category")
    both = model.predict_proba(X)
    assert [p.shape for p in both] == [(len(X), 2)] * 2
    assert model.predict(X).shape == (len(X), 2)
    model.save(tmp_path / "model")
    loaded = de.load(tmp_path / "model").predict(X)
    assert list(loaded) == ["p_click", "p_buy"]
    np.testing.assert_allclose(loaded.T, [p[:, 1] for p in both], rtol=0, atol=1e-6)


def test_the_estimators_are_those_of_the_registry():
    named = {estimator.arm for estimator in ESTIMATORS.values()}
    left_out = {arm for arm in ARMS if ARMS[arm].planted or "released" in arm}
    assert named <= ARMS.keys() - left_out
    assert {"base", "mlora", "moe_mlora", "mdmt"} | {n for n in ARMS if ARMS[n].floor} <= named
    assert all(getattr(de, name) is estimator for name, estimator in ESTIMATORS.items())


def test_it_learns():
    model = de.Base(epochs=15, settings=TINY).fit(X, Y, domain="category")
    new, y = rows(seed=1)
    assert roc_auc_score(y, model.predict_proba(new)[:, 1]) > 0.85
    assert model.score(new, y) > 0.7


def test_tables_of_all_kinds_give_the_same():
    arrow = pa.Table.from_pandas(X, preserve_index=False)
    views = pa.array(arrow["item"].to_pylist(), pa.string_view())
    large = arrow.set_column(1, "item", views)

    class Exported:
        """A table of a library that is not known here."""

        def __arrow_c_stream__(self, requested_schema=None):
            return large.__arrow_c_stream__(requested_schema)

    tables = [X.set_index(np.arange(len(X)) + 7), arrow, arrow.combine_chunks().to_batches()[0]]
    model = small("MLoRA").fit(X, Y, domain="category")
    first = model.predict_proba(X)
    for table in (*tables, Exported()):
        again = clone(model).fit(table, Y, domain="category")
        np.testing.assert_array_equal(again.predict_proba(table), first)
        np.testing.assert_array_equal(model.predict_proba(table), first)


def test_kinds_of_columns_are_guessed_and_overridden():
    table = pa.Table.from_pandas(X, preserve_index=False)
    guessed = columns_of(table, "category", None, None, {"click": "click"})
    assert list(guessed.fields) == ["user", "item", "category", "new", "tags"]
    assert guessed.fields["tags"].multi
    assert [dense.column for dense in guessed.dense] == ["price"]
    said = columns_of(
        table,
        "category",
        {"u": {"column": "user", "min_count": 5}, "price": {}},
        ["new"],
        {"y": "y"},
    )
    assert list(said.fields) == ["u", "price", "item", "category", "tags"]
    assert said.fields["u"].min_count == 5
    assert [dense.column for dense in said.dense] == ["new"]


def test_numbers_without_a_domain_are_of_one(tmp_path):
    numbers = X[["user", "price"]].to_numpy()
    model = small("MoEMLoRA").fit(numbers, Y)
    assert model.model_.saved.schema.domains == ("all",)
    model.save(tmp_path / "model")
    loaded = de.load(tmp_path / "model").predict(numbers)["p_click"]
    np.testing.assert_allclose(loaded, model.predict_proba(numbers)[:, 1], rtol=0, atol=1e-6)


def test_labels_may_have_any_names():
    names = np.where(Y == 1, "yes", "no")
    model = small("FactorisationMachine").fit(X, names, domain="category")
    numbers = small("FactorisationMachine").fit(X, Y, domain="category")
    assert list(model.classes_) == ["no", "yes"]
    np.testing.assert_array_equal(model.predict_proba(X), numbers.predict_proba(X))
    assert set(model.predict(X)) <= {"no", "yes"}


def test_training_is_in_the_settings_precision_alone():
    plain = small("Base").fit(X, Y).predict_proba(X)
    model = small("Base")
    with torch.autocast("cpu", torch.bfloat16):
        model.fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), plain)


def test_weights_count_in_the_loss():
    weight = np.where(X["new"], 10.0, 0.1)
    fit = small("Base").fit
    plain, weighted = (fit(X, Y, w, domain="category").predict_proba(X) for w in (None, weight))
    assert abs(plain - weighted).max() > 1e-4
    with pytest.raises(UserError, match="LightGBM does not weight rows"):
        small("LightGBM").fit(X, Y, weight)


def test_rare_domains_are_one_and_take_the_unknown():
    table = X.assign(category=np.where(X.index < 20, "rare", X["category"]))
    rare = {"column": "category", "min_rows": 50}
    model = small("STAR").fit(table, Y, domain=rare)
    assert model.model_.saved.schema.domains == ("a", "b", "c", "(other)")
    elsewhere = table.assign(category="unknown")
    encoder = model.model_.saved.encoder
    assert set(encoder.encode(pa.Table.from_pandas(elsewhere)).domain) == {3}
    assert np.isfinite(model.predict_proba(elsewhere)).all()
    left_out = small("STAR").fit(table, Y, domain=rare | {"rare": "drop"})
    assert sum(left_out.record_["rows"]["train"]) < 0.9 * 890
    with pytest.raises(UserError, match="900 rows are of domains that the model has not met"):
        left_out.predict_proba(elsewhere)


def test_settings_are_of_one_arm_or_of_all():
    model = small("MoEMLoRA", backbone="wdl")
    more = TINY | {"experts/training.max_epochs": 1, "adapter.experts_per_domain": 2}
    model.set_params(settings=more, epochs=3).fit(X, Y, domain="category")
    assert np.array(model.record_["gate"]).shape == (3, 6)
    assert model.model_.saved.identity.settings.training.max_epochs == 3


def test_it_is_searched_over_and_pickled():
    search = GridSearchCV(small("Base"), {"backbone": ["mlp", "wdl"]}, cv=2, scoring="roc_auc")
    search.fit(X, Y, domain="category")
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    share=st.floats(0.05, 0.5),
    tasks=st.integers(1, 2),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=60)
def test_rows_that_validate_are_spread_over_domains_and_labels(sizes, share, tasks, seed):
    domain = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.random.default_rng(seed).integers(0, 2, (len(domain), tasks))
    validates = held_out(labels, domain, share, seed) == VALIDATION
    # two more of each class and task, where an AUC needs them
    assert abs(validates.sum() - share * len(domain)) <= 1 + 2 * tasks
    kinds = np.column_stack([labels, domain])
    for kind in np.unique(kinds, axis=0):
        own = validates[(kinds == kind).all(1)]
        assert abs(own.sum() - share * len(own)) <= 1 + 2 * tasks
    for positive in labels.T == 1:
        rows, hits = np.bincount(domain), np.bincount(domain, positive)
        with_auc = np.minimum(hits, rows - hits) > 1
        if with_auc.any() and with_auc[np.where((hits > 0) & (hits < rows), rows, 0).argmax()]:
            chosen = [set(positive[validates & (domain == d)]) for d in range(len(sizes))]
            assert {True, False} in chosen


def test_a_bar_warns_of_what_training_has_to_say_alone(monkeypatch):
    bar = Bar("MoEMLoRA")
    with bar.bar:
        with pytest.warns(UserWarning, match="MoEMLoRA: expert 3 stays untrained"):
            bar.say("expert 3 stays untrained")
        # long after its last word
        monkeypatch.setattr(bar, "_last_line", -1e9)
        bar.trained("experts", 1, 1, 100, 2.0, 0.7, 3)
        assert (bar.rows, bar.epochs) == (100, 1)


def test_the_package_imports_nothing_heavy_and_results_do_not_count_it():
    said = "import domain_experts, sys; assert not {'torch', 'sklearn'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", said], check=True)
    counted = source_modules(("domain_experts.training.job",))
    assert "domain_experts" in counted
    assert not {"domain_experts.estimators", "domain_experts.own_study"} & {*counted}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"domain": "kategory"}, "domain: column 'kategory' is unknown; did you mean category?"),
        ({"fields": ["usr"]}, "fields: column 'usr' is unknown; did you mean user?"),
        ({"fields": "user"}, "fields: give a list of columns"),
        ({"dense": ["prise"]}, "dense: column 'prise' is unknown; did you mean price?"),
        (
            {"X": X.assign(word="w"), "dense": ["word"]},
            "the table, row 1: column 'word' holds 'w': no number",
        ),
        ({"fields": ["user"], "dense": ["user"]}, "'user' is named under `fields` and under"),
        ({"fields": {"item": {"hash": 1}}}, r"fit\(domain, fields, dense\).*(?s:.*)hash"),
        ({"fields": {"item": {"min": 1}}}, "unknown key; known here: column, min_count"),
        ({"validation": 1.0}, "validation is 1.0"),
        ({"y": Y.rename("price")}, "y and X both have a column 'price'"),
        ({"settings": {"model.width": 3}}, "'model.width' is not a setting"),
        ({"settings": {"training.batch_size": 0}}, "training.batch_size"),
        ({"backbone": "wd"}, "backbone 'wd' is unknown; did you mean wdl?"),
        ({"device": "gpu"}, "device 'gpu' is unknown"),
        ({"X": X.assign(at=pd.Timestamp("2024-01-01"))}, "column 'at' is timestamp"),
        ({"X": pd.concat([X, X[["user"]]], axis=1)}, "column 'user' is there more than once"),
    ],
)
def test_what_cannot_be_fitted_is_said(changed, message):
    all_given = {"X": X, "y": Y, "domain": "category"} | changed
    own = {
        name: all_given.pop(name) for name in ("settings", "backbone", "device") if name in changed
    }
    with pytest.raises(UserError, match=message):
        de.Base(**own).fit(**all_given)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (X["user"] % 3, "Only binary classification"),
        (np.zeros(len(X)), "only one class"),
        (X["price"], "Unknown label type"),
        (Y[:-1], "inconsistent numbers of samples"),
    ],
)
def test_labels_that_are_none_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        de.Base().fit(X, y, domain="category")


def test_scoring_other_rows_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        de.Base().predict(X)
    model = small("Base").fit(X, Y, domain="category")
    with pytest.raises(ValueError, match=r"yet now missing:\n- price"):
        model.predict(X.drop(columns="price"))
    model.save(tmp_path / "model")
    loaded = de.load(tmp_path / "model")
    with pytest.raises(UserError, match="column 'price' is unknown"):
        loaded.predict(X.drop(columns="price"))
    with pytest.raises(UserError, match="rows are a list"):
        loaded.predict([1, 2])
    with pytest.raises(UserError, match="something that is no saved model"):
        model.save(tmp_path)


def test_unknown_names_of_the_package_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'Bass'"):
        _ = de.Bass
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = de.lod
