"""docs/python.md does what it says: fits, keeps, and runs a study from Python."""

import re

import numpy as np
import pandas as pd
import pytest
from projects import ROOT

import domain_experts as de
from domain_experts.errors import UserError
from domain_experts.study_file import read

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def log(n=1500):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "user": rng.integers(0, 40, n),
            "item": rng.integers(0, 20, n).astype(str),
            "category": rng.choice(["a", "b", "c"], n),
            "price": rng.random(n),
            "rating": rng.integers(1, 6, n),
            "at": pd.Timestamp("2024-05-01") + pd.to_timedelta(np.arange(n), "min"),
        }
    )
    score = rng.normal(size=20)[table["item"].astype(int)] + 2 * table["price"] - 1
    return table.assign(click=(rng.random(n) < 1 / (1 + np.exp(-score))).astype(int))


@pytest.fixture(scope="module")
def python_page(tmp_path_factory):
    """What the page's code leaves, run in an empty folder."""
    found = {"table": log().drop(columns=["rating", "at"])}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("python page"))
        for block in BLOCK.findall((ROOT / "docs/python.md").read_text(encoding="utf-8")):
            exec(compile(block, "docs/python.md", "exec"), found)
        yield found


def test_the_kept_model_scores_as_the_fitted_one(python_page):
    fitted = python_page["model"].predict_proba(python_page["X"])[:, 1]
    loaded = de.load("clicks-model").predict(python_page["X"])["p_click"]
    np.testing.assert_allclose(loaded, fitted, rtol=0, atol=1e-6)


def test_the_study_has_results_and_a_verdict(python_page):
    study = python_page["study"]
    found = study.results()
    assert set(found["arm"]) == {"item_rate", "base", "mlora"}
    assert set(found["seed"]) == {2022, 2023}
    gains = study.gains()
    assert {"gain", "low", "high", "verdict"} <= {*gains}
    assert ((gains["low"] <= gains["gain"]) & (gains["gain"] <= gains["high"])).all()
    assert study.verdict().startswith(("Take ", "No gain"))


def test_the_best_model_is_that_of_the_best_arm(python_page):
    numbers = python_page["study"].results()
    own = numbers[(numbers["metric"] == "wauc") & (numbers["split"] == "validation")]
    best = own.groupby("arm")["value"].mean().idxmax()
    loaded = de.load("best-model")
    assert loaded.saved.identity.arm == best
    # an id that no row had
    scores = loaded.predict(python_page["X"].assign(item="another"))["p_click"]
    assert scores.between(0, 1).all()


def test_a_study_file_says_what_was_asked(tmp_path):
    study = de.Study.from_frame(
        log(),
        domain={"column": "category", "min_rows": 5},
        tasks={"click": "click", "best": "rating >= 4"},
        fields={"user": {"min_count": 3}},
        folder=tmp_path,
        time="at",
        split={"rule": "time"},
        arms="mlora",
    )
    said = read(study.file)
    assert said.domain.min_rows == 5
    assert said.tasks == {"click": "click", "best": "rating >= 4"}
    assert list(said.fields) == ["user", "item", "category"]
    assert said.fields["user"].min_count == 3
    assert [dense.column for dense in said.dense] == ["price"]
    assert (said.time, said.split.rule, said.arms) == ("at", "time", ("mlora",))
    with pytest.raises(UserError, match=r"no results yet|results\.parquet is missing"):
        study.results()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"domain": "kategory"}, "domain: column 'kategory' is unknown"),
        ({"arms": ["bsae"]}, "arm 'bsae' is unknown; did you mean base"),
        ({"seed": 3}, "unknown key; known here"),
        ({"dense": ["click"]}, "dense: column 'click' is unknown"),
    ],
)
def test_what_cannot_be_studied_is_said_at_once(changed, message, tmp_path):
    given = {"domain": "category", "tasks": "click", "time": "at"} | changed
    with pytest.raises(UserError, match=message):
        de.Study.from_frame(log(), folder=tmp_path, **given)
