"""Published numbers: read as data, refused where they do not fit."""

import hashlib
import math

import pandas as pd
import pytest
from assignments import params, study_of
from hypothesis import given
from hypothesis import strategies as st

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.reporting import published as module
from domain_experts.reporting.frame import ALL_TASKS, frames
from domain_experts.reporting.published import published, verdict_text, verdicts_on
from domain_experts.reporting.tables import write_tables
from domain_experts.results import load
from domain_experts.runs import variant_name

HEAD = "source,dataset,backbone,arm,variant,domain,task,metric,value,test_rows\n"
CELL = "a paper,ml-1m-gender,wdl,moe_mlora,default,,click,"


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Write cells in the place of the package's own."""
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    (tmp_path / "published").mkdir()
    module._all.cache_clear()

    def put(text):
        content = (HEAD + text).encode()
        (tmp_path / "published" / "own.csv").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        (tmp_path / "published" / "SHA256SUMS").write_text(f"{digest}  own.csv\n")

    yield put
    module._all.cache_clear()


def test_what_is_published_of_movielens_names_runs_of_the_paper_tier():
    """Of other data the study runs a part of what is published."""
    keys = ["dataset", "backbone", "arm", "variant"]
    runs = {
        (run.dataset, run.backbone, run.arm, variant_name(run.variant))
        for run in study_of("paper").expected_runs
    }
    for metric in ("macro_auc", "macro_log_loss"):
        frame = published(metric)
        own = frame[frame["dataset"].str.startswith("ml-1m")]
        assert len(own) > 10
        assert set(own[keys].itertuples(index=False, name=None)) <= runs


def test_all_that_is_published_is_of_what_params_yaml_has():
    """Tasks and domains: of the data sets whose numbers are committed."""
    study = study_of("paper")
    everything = [run for tier in study.params.tiers for run in study_of(tier).expected_runs]
    variants = {(run.arm, variant_name(run.variant)) for run in everything}
    data = load(study).data
    frame = module._all()
    assert set(frame["dataset"]) <= set(study.params.data.datasets)
    own = frame[frame["variant"] != ""]
    assert set(zip(own["arm"], own["variant"], strict=True)) <= variants
    assert len(set(frame["dataset"]) & set(data)) >= 2
    for dataset, domain, task in frame[["dataset", "domain", "task"]].to_numpy():
        if dataset in data:
            assert task in ("", ALL_TASKS, *data[dataset]["tasks"])
            assert int(domain or 1) <= len(data[dataset]["domains"])


def test_what_params_yaml_does_not_have_is_not_shown(cells, fabricated_whole):
    cells(CELL.replace("ml-1m-gender", "elsewhere") + "wauc,0.8123,unknown\n")
    write_tables(frames(fabricated_whole), ["main"])
    text = (layout.tables("quick") / "main.md").read_text()
    assert "MoE-MLoRA" in text
    assert "0.8123" not in text


def test_the_published_means_are_those_of_their_cells_but_for_two():
    keys = ["dataset", "backbone", "arm", "variant"]
    means = published("auc", by_cell=True).groupby(keys)["published_auc"].mean()
    printed = published("macro_auc").set_index(keys)["published_macro_auc"]
    both = pd.concat([means, printed], axis="columns").dropna()
    apart = both[(both["published_auc"] - both["published_macro_auc"]).abs() > 0.00011]
    assert len(both) > 20
    assert len(apart) == 2


def test_a_cell_is_read(cells):
    cells(CELL + "wauc,0.81,same\n")
    row = published("wauc").iloc[0]
    keys = ("ml-1m-gender", "click", "wdl", "moe_mlora", "default")
    assert tuple(row) == (*keys, 0.81, 0.005, "same")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (2 * f"{CELL}wauc,0.8,same\n", "line 3: this cell has a value already"),
        (f"{CELL}accuracy,0.8,same\n", "line 2: metric 'accuracy' is unknown"),
        (f"{CELL}wauc,high,same\n", "line 2: value 'high' is not a number"),
        (f"{CELL}wauc,81.2,same\n", r"line 2: value 81\.2 is not an AUC"),
        (f"{CELL}wauc,nan,same\n", "line 2: value nan is not an AUC"),
        (f"{CELL}wauc\n", "line 2: expected the columns"),
        (f"{CELL}wauc,0.8\n", "line 2: expected the columns"),
        (f"{CELL}wauc,0.8,\n", "line 2: test_rows is '', and must be one of same, other, unknown"),
        (f"{CELL}rows,80,same\n", "line 2: test_rows is 'same', and must be empty"),
        (f"{CELL}wauc,0.8,same,more\n", "line 2: expected the columns"),
        (CELL.replace("wdl", "wld") + "wauc,0.8,same\n", "line 2: backbone 'wld' is unknown"),
        (
            CELL.replace(",,click", ",two,click") + "auc,0.8,same\n",
            "line 2: domain 'two' is not a number",
        ),
        (
            CELL.replace(",,click", ",0,click") + "auc,0.8,same\n",
            "line 2: domain '0' is not a number",
        ),
        (
            CELL.replace("default", '"fusion=gated,domain-modul=False"') + "wauc,0.8,same\n",
            "line 2: setting 'domain-modul' is unknown; did you mean domain-module",
        ),
        (CELL.replace("moe_mlora", "moe") + "wauc,0.8,same\n", "line 2: arm 'moe' is unknown"),
    ],
)
def test_what_does_not_fit_is_refused(cells, text, message):
    cells(text)
    with pytest.raises(UserError, match=message):
        published("wauc")


def held_against(difference, half, seeds=3, metric="wauc", rounding=0.00005):
    """A mean that is so far from a published value."""
    known = f"published_{metric}"
    row = {metric: 0.77 + difference, f"{metric}_half": half, f"{metric}_n": seeds}
    row |= {known: 0.77, f"{known}_rounding": rounding, f"{known}_rows": "same"}
    return pd.DataFrame([row | {"status": "current"}])


@pytest.mark.parametrize(
    ("difference", "half", "expected"),
    [
        (0.0019, math.nan, "no interval"),
        (0.0005, 0.0002, "met"),
        (-0.0005, 0.0004, "met"),
        # too wide to say so, by the last digit alone
        (0.0005, 0.00046, "not told apart"),
        (0.0, 0.002, "not told apart"),
        (0.0019, 0.002, "not told apart"),
        (0.0015, 0.0002, "better than published"),
        (-0.003, 0.002, "worse than published"),
    ],
)
def test_met_is_the_whole_interval_within_the_margin(difference, half, expected):
    assert verdicts_on(held_against(difference, half), "wauc", 0.001) == [expected]
    turned = {"better": "worse", "worse": "better"}
    mirrored = " ".join(turned.get(word, word) for word in expected.split())
    loss = held_against(difference, half, metric="macro_log_loss")
    assert verdicts_on(loss, "macro_log_loss", 0.001) == [mirrored]
    assert verdicts_on(loss, "macro_log_loss", math.nan) != ["met"]


def test_one_seed_has_no_verdict_on_a_published_value():
    assert verdicts_on(held_against(0.0, 0.0001, seeds=1), "wauc", 0.001) == ["one seed"]


def test_the_verdict_is_told_at_half_and_double_the_margin_where_it_is_another():
    def said(*args):
        (text,) = verdict_text(held_against(*args), "wauc", 0.001)
        return text.removesuffix(")").split(", ")[1]

    assert said(0.0015, 0.0002) == "better than published; double: met"
    assert said(0.0006, 0.0002) == "met; half: better than published"
    assert said(0.0, 0.0008) == "met; half: not told apart"
    assert said(0.01, 0.002) == "better than published"
    assert said(0.0, 0.0002) == "met"


@given(st.floats(-0.01, 0.01), st.floats(0, 0.01), st.floats(0, 0.01), st.floats(1e-4, 0.01))
def test_a_wider_interval_never_makes_an_unmet_value_met(difference, half, more, margin):
    met = [
        verdicts_on(held_against(difference, own), "wauc", margin) == ["met"]
        for own in (half + more, half)
    ]
    assert met == sorted(met)


@given(st.floats(-0.01, 0.01), st.floats(0, 0.01), st.floats(1e-4, 0.01), st.floats(1, 4))
def test_a_wider_margin_never_makes_a_met_value_unmet(difference, half, margin, factor):
    own = held_against(difference, half)
    met = [verdicts_on(own, "wauc", each) == ["met"] for each in (margin, margin * factor)]
    assert met == sorted(met)


def test_rows_that_cannot_be_known_are_told_in_the_cell():
    frame = pd.DataFrame(
        {
            "published_wauc": 0.7702,
            "published_wauc_rounding": 0.00005,
            "published_wauc_rows": ["same", "unknown", "other"],
            "wauc": 0.7706,
            "wauc_half": 0.00004,
            "wauc_n": 3,
            "status": ["current", "current", "stale"],
        }
    )
    cells = verdict_text(frame, "wauc", 0.001)
    assert cells == [
        "0.7702 (+0.0004, met)",
        "0.7702 (+0.0004, met, test rows unknown)",
        "0.7702 (+0.0004, met, other test rows)°",
    ]


def test_of_what_is_measured_on_test_rows_it_is_said_which():
    frame = module._all()
    measured = ~frame["metric"].isin(module._COUNTS)
    assert set(frame.loc[measured, "test_rows"]) == {"same", "unknown"}
    assert set(frame.loc[~measured, "test_rows"]) == {""}
    own = frame.loc[frame["test_rows"] == "same", "dataset"]
    rules = params().data
    # rows that the authors cut themselves
    assert {rules.split_rule(name).rule for name in own} == {"given"}
