"""Published numbers: read as data, refused where they do not fit."""

import pandas as pd
import pytest

from domain_experts import layout
from domain_experts.errors import UserError
from domain_experts.params import TIERS
from domain_experts.presence import load_study
from domain_experts.reporting import published as module
from domain_experts.reporting.frame import ALL_TASKS
from domain_experts.reporting.published import published, verdict
from domain_experts.reporting.tables import write_tables
from domain_experts.results import load
from domain_experts.runs import variant_name
from domain_experts.study import Study

HEAD = "source,dataset,backbone,arm,variant,domain,task,metric,value\n"
CELL = "a paper,ml-1m-gender,wdl,moe_mlora,default,,click,"


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """Write cells in the place of the package's own."""
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    (tmp_path / "published").mkdir()
    module._all.cache_clear()
    yield lambda text: (tmp_path / "published" / "own.csv").write_text(HEAD + text)
    module._all.cache_clear()


def test_what_is_published_of_movielens_names_runs_of_the_paper_tier():
    """Of other data the study runs a part of what is published."""
    keys = ["dataset", "backbone", "arm", "variant"]
    runs = {
        (run.dataset, run.backbone, run.arm, variant_name(run.variant))
        for run in load_study("paper").expected_runs
    }
    for metric in ("macro_auc", "macro_log_loss"):
        frame = published(metric)
        own = frame[frame["dataset"].str.startswith("ml-1m")]
        assert len(own) > 10
        assert set(own[keys].itertuples(index=False, name=None)) <= runs


def test_all_that_is_published_is_of_what_params_yaml_has():
    """Tasks and domains: of the data sets whose numbers are committed."""
    study = load_study("paper")
    everything = [run for tier in TIERS for run in Study(study.params, tier).expected_runs]
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
    cells(CELL.replace("ml-1m-gender", "elsewhere") + "wauc,0.8123\n")
    write_tables(fabricated_whole, ["main"])
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
    cells(CELL + "wauc,0.81\n")
    row = published("wauc").iloc[0]
    assert tuple(row) == ("ml-1m-gender", "click", "wdl", "moe_mlora", "default", 0.81)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (2 * f"{CELL}wauc,0.8\n", "line 3: this cell has a value already"),
        (f"{CELL}accuracy,0.8\n", "line 2: metric 'accuracy' is unknown"),
        (f"{CELL}wauc,high\n", "line 2: value 'high' is not a number"),
        (f"{CELL}wauc,81.2\n", r"line 2: value 81\.2 is not an AUC"),
        (f"{CELL}wauc,nan\n", "line 2: value nan is not an AUC"),
        (f"{CELL}wauc\n", "line 2: expected the columns"),
        (f"{CELL}wauc,0.8,more\n", "line 2: expected the columns"),
        (CELL.replace("wdl", "wld") + "wauc,0.8\n", "line 2: backbone 'wld' is unknown"),
        (
            CELL.replace(",,click", ",two,click") + "auc,0.8\n",
            "line 2: domain 'two' is not a number",
        ),
        (CELL.replace(",,click", ",0,click") + "auc,0.8\n", "line 2: domain '0' is not a number"),
        (
            CELL.replace("default", '"fusion=gated,domain-modul=False"') + "wauc,0.8\n",
            "line 2: setting 'domain-modul' is unknown; did you mean domain-module",
        ),
        (CELL.replace("moe_mlora", "moe") + "wauc,0.8\n", "line 2: arm 'moe' is unknown"),
    ],
)
def test_what_does_not_fit_is_refused(cells, text, message):
    cells(text)
    with pytest.raises(UserError, match=message):
        published("wauc")


@pytest.mark.parametrize(
    ("difference", "sd", "expected"),
    [
        (0.0019, float("nan"), "met"),
        (-0.0021, float("nan"), "not met"),
        (0.0021, 0.0005, "not met"),
        (-0.0059, 0.003, "met"),
        (0.0061, 0.003, "not met"),
    ],
)
def test_the_tolerance(difference, sd, expected):
    assert verdict(difference, sd) == expected
