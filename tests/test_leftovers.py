"""What no study needs is found and removed, and nothing else."""

import os
import shutil
import time
from pathlib import Path

import pytest
from smoke import change_params
from typer.testing import CliRunner

from domain_experts import layout
from domain_experts.cli import app
from domain_experts.files import read_json, write_json
from domain_experts.leftovers import leftovers
from domain_experts.presence import load_study
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.job import Bench
from domain_experts.training.store import Entry, entries


@pytest.fixture
def small(smoke):
    """The small study as the only tier, with nothing left over."""

    def only(params):
        params["tiers"] = {"smoke": params["tiers"]["smoke"]}
        params["tier"] = "smoke"
        for experiment in params["experiments"].values():
            for key in ("datasets", "seeds"):
                own = experiment.get(key, {})
                experiment[key] = {t: v for t, v in own.items() if t == "smoke"}

    study = change_params(only)
    assert found(study) == []
    return study


def found(study):
    return [one.path for one in leftovers(study.params)]


def old(path, hours=2):
    then = time.time() - hours * 3600
    for part in (*path.rglob("*"), path):
        os.utime(part, (then, then))
    return path


def test_temporary_files_are_left_over_once_they_rest(small):
    file = Path("results/smoke/.new-results.parquet.abc.parquet")
    file.write_bytes(b"half")
    folder = Path("data/interactions/.new-planted.x")
    folder.mkdir()
    (folder / "labels.npy").write_bytes(b"half")
    assert found(small) == []
    assert found(small) == []
    old(file)
    old(folder)
    assert found(small) == [folder, file]


def test_runs_that_are_no_longer_asked_for_are_left_over(small):
    gone = [run for run in small.expected_runs if run.arm == "mlora" and not run.variant]
    keys = {read_json(layout.run_artifacts("smoke", run) / "run.json", "")["key"] for run in gone}

    def without(params):
        for experiment in params["experiments"].values():
            if "mlora" in experiment["arms"]:
                experiment["arms"].remove("mlora")

    study = change_params(without)
    still = {run.path for run in study.expected_runs}
    wanted = {layout.run_artifacts("smoke", run) for run in gone if run.path not in still}
    assert wanted
    paths = set(found(study))
    assert wanted <= paths
    assert {Entry(key).folder for key in keys} & paths
    assert all(not path.is_relative_to("data") for path in paths)
    result = CliRunner().invoke(app, ["gc"])
    assert "`domain-experts gc --delete` removes them" in result.output
    assert wanted <= set(found(study))
    result = CliRunner().invoke(app, ["gc", "--delete"])
    assert result.exit_code == 0, result.output
    assert found(study) == []
    # what is needed is there
    assert CliRunner().invoke(app, ["check", "--tier", "smoke"]).exit_code == 0


def test_entries_that_are_finished_but_not_published_are_kept(small):
    for index in Path("artifacts").rglob("runs.json"):
        index.unlink()
    left = {path for path in found(small) if path.is_relative_to(layout.STORE)}
    assert not left


def test_an_entry_of_other_code_that_nothing_names_is_left_over(small):
    (entry, *_) = [entry for entry in entries() if entry.index.is_file()]
    for index in Path("artifacts").rglob("runs.json"):
        index.unlink()
    made = read_json(entry.folder / "run.json", "")
    write_json(entry.folder / "run.json", made | {"code": "0" * 64}, sealed=True)
    assert [p for p in found(small) if p.is_relative_to(layout.STORE)] == [entry.folder]


def test_checkpoints_of_runs_that_nobody_asks_for_are_left_over(small):
    run = next(run for run in small.expected_runs if run.arm == "base")
    asked = Entry(Bench.of(small, run.job, "cpu", 1).key(run))
    shutil.rmtree(asked.folder)
    stale = Entry("e" * 64)
    for entry in (asked, stale):
        Checkpoint(entry.checkpoint, entry.key).save({}, {"epoch": 1})
    layout.job_index("smoke", run.job).unlink()
    assert [p for p in found(small) if p.is_relative_to(layout.STORE)] == [stale.folder]
    # a process that trains holds its entry
    with stale.lock():
        result = CliRunner().invoke(app, ["gc", "--delete"])
    assert "in use" in result.output
    assert stale.checkpoint.is_file()


def test_data_and_tiers_that_params_no_longer_name_are_left_over(small):
    for name in ("data/interactions/gone", "data/splits/smoke/gone", "artifacts/former"):
        Path(name).mkdir()
        Path(name, "file").write_bytes(b"x" * 1000)
    assert [str(path) for path in found(small)] == [
        "data/interactions/gone",
        "data/splits/smoke/gone",
        "artifacts/former",
    ]
    assert [one.size for one in leftovers(load_study().params)] == [1000] * 3


def test_nothing_is_removed_while_a_workflow_runs(small):
    Path("artifacts/former").mkdir()
    locks = Path(".snakemake/locks")
    locks.mkdir(parents=True)
    (locks / "0.input.lock").write_text("")
    result = CliRunner().invoke(app, ["gc", "--delete"])
    assert result.exit_code != 0
    assert "a workflow runs here" in str(result.exception)
    assert Path("artifacts/former").is_dir()
