"""A number's road back."""

import contextlib
import dataclasses

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from domain_experts import layout
from domain_experts.cli import app
from domain_experts.digest import code_digest, source_files
from domain_experts.errors import UserError
from domain_experts.reporting.explain import explained
from domain_experts.reporting.frame import Frames
from domain_experts.reporting.render import Table, mean_sd
from domain_experts.results import load, read

MLORA = "main/planted/wdl/mlora"


@pytest.fixture(scope="module")
def of(fabricated_tree):
    """A study with one run that was made by other code, settings and data, and one not at all."""
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        whole = load(study)
        records = dict(whole.records)
        first, second, _ = sorted(path for path in records if f"/{MLORA[5:]}/default/" in path)
        made = records[first]["provenance"]
        settings = records[first]["settings"] | {"adapter.alpha": 4}
        records[first] = records[first] | {
            "provenance": made | {"code": "0" * 64, "finished": "2020-01-01", "split": None},
            "settings": settings,
        }
        del records[second]
        stored = whole.stored[whole.stored["run"] != second]
        found = Frames(dataclasses.replace(whole, records=records, stored=stored))
        assert found.results.status[first] == "stale"
        return found


def parts(of, cell, fabricated_tree):
    with contextlib.chdir(fabricated_tree[0]):
        found = [*explained(of, cell)]
    tables = [part for part in found if isinstance(part, Table)]
    text = "\n".join(part for part in found if isinstance(part, str))
    told = [dict(table.printed.itertuples(index=False, name=None)) for table in tables[1:]]
    return tables[0].printed, told, text


def test_values_are_those_of_the_results(of, fabricated_tree):
    values, _, text = parts(of, MLORA, fabricated_tree)
    with contextlib.chdir(fabricated_tree[0]):
        frame = read(layout.results_file("quick"))
    chosen = frame[
        (
            frame[["dataset", "backbone", "arm", "variant"]]
            == ["planted", "wdl", "mlora", "default"]
        ).all(axis=1)
        & (frame["metric"] == "wauc")
        & (frame["split"] == "test")
        & (frame["against"] == "")
    ].sort_values("seed")["value"]
    assert values["WAUC"].to_list() == [f"{chosen.iloc[0]:.6f}", "–", f"{chosen.iloc[2]:.6f}"]
    assert values["Status"].to_list() == ["stale", "not run", "current"]
    known = chosen.iloc[[0, 2]]
    assert f"WAUC on test rows: {mean_sd(known.mean(), known.std(), 6)}" in text
    assert "seed=2: not run, nothing is recorded" in text


def test_facts_are_told_once_or_by_seed(of, fabricated_tree):
    _, (facts, settings, raw), text = parts(of, MLORA, fabricated_tree)
    run = next(
        run
        for run in of.study.expected_runs
        if run.path.as_posix().endswith("baselines/planted/wdl/mlora/default/seed=3")
    )
    today = code_digest(run.job.modules)[:12]
    assert facts["code"] == f"1: 000000000000, today's is {today}\n3: {today}, as today's"
    assert facts["status"] == "1: stale, differs in code, settings, not recorded\n3: current"
    assert facts["finished"] == "1: 2020-01-01\n3: not recorded"
    assert facts["split"].startswith("1: seed 1, not recorded\n3: seed 3, ")
    assert facts["code files"].split(", ") == [f.as_posix() for f in source_files(run.job.modules)]
    assert facts["machine"] == "A processor"
    assert settings["adapter.alpha"] == f"1: 4; today {run.settings.adapter.alpha}\n3: 16"
    assert settings["model.dropout"] == str(run.settings.model.dropout)
    assert raw["source"] == "random"
    job = layout.job_index("quick", run.job).as_posix()
    assert text.endswith(f"snakemake --config tier=quick -- {job}")


def test_a_gain_shows_both_sides(of, fabricated_tree):
    values, told, text = parts(of, f"{MLORA}:gain over base", fabricated_tree)
    numbers = values.iloc[[0, 2]][["Gain", "WAUC", "WAUC of base"]]
    gain, own, other = numbers.map(lambda cell: float(cell.replace("−", "-"))).to_numpy().T
    assert gain == pytest.approx(own - other, abs=2e-6)
    assert "Gain in WAUC over base" in text
    assert len(told) == 6
    assert told[3]["path"] == "backbones/planted/wdl/base/default"
    assert "baselines/planted/wdl/mlora/runs.json artifacts/quick/backbones/planted" in text


def test_a_cell_has_several_names(of, fabricated_tree):
    path = "baselines/planted/wdl/mlora/default/seed=3"
    one, _, _ = parts(of, path, fabricated_tree)
    several, _, _ = parts(of, f"{MLORA}/default:wauc", fabricated_tree)
    pd.testing.assert_frame_equal(one, several.iloc[2:].reset_index(drop=True))
    losses, _, _ = parts(of, f"{path}:log_loss", fabricated_tree)
    assert np.isfinite(float(losses["Log loss"].iloc[0]))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("main/planted/wdl/mlorra", "did you mean main/planted/wdl/mlora"),
        ("nothing", "cell of tier quick 'nothing' is unknown; a cell is EXPERIMENT/DATA SET/"),
        (f"{MLORA}:waucc", "metric 'waucc' is unknown; did you mean wauc"),
        (f"{MLORA}:gain over star", "'star' is no reference of this cell; its references are base"),
        ("main/planted/wdl/base:gain over base", "is not compared with base: it is the reference"),
        ("backbones/planted/wdl/base/default/seed=1:gain over base", "name a cell of an experim"),
    ],
)
def test_what_is_unknown_is_answered_by_what_was_meant(of, fabricated_tree, cell, message):
    with pytest.raises(UserError, match=message):
        parts(of, cell, fabricated_tree)


def test_the_command_prints_raw_files_of_committed_results(fabricated_tree, monkeypatch):
    monkeypatch.chdir(fabricated_tree[0])
    result = CliRunner().invoke(app, ["explain", MLORA, "--tier", "quick"])
    assert result.exit_code == 0, result.output
    assert "Raw data" in result.output
    assert "Make it again: snakemake" in result.output
