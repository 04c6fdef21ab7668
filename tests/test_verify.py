"""Numbers made again from stored logits."""

from collections import Counter

import numpy as np
import pytest
from fabricated import change_json
from typer.testing import CliRunner

from domain_experts import layout
from domain_experts.cli import app
from domain_experts.errors import UserError
from domain_experts.evaluation.verify import VERIFIED, verify
from domain_experts.files import read_json, write_json
from domain_experts.results import load, read, write


def everything(study):
    return verify(study, sample=10**6, seed=0)


def test_every_number_of_a_study_is_made_again(smoke):
    """Two roads to each: this package's ranks and scikit-learn's."""
    found = everything(smoke)
    numbers = load(smoke).numbers
    assert len(found.checks) == numbers["metric"].isin(VERIFIED).sum() > 500
    assert {check.row["metric"] for check in found.checks} == {*VERIFIED}
    assert all(check.same for check in found.checks)
    assert found.runs == numbers["run"].nunique()
    assert not found.others
    assert max(abs(check.again - check.row["value"]) for check in found.checks) > 0


def test_a_sample_is_the_seeds(smoke):
    rows = [[check.row for check in verify(smoke, 20, seed).checks] for seed in (1, 1, 2)]
    assert len(rows[0]) == 20
    assert rows[0] == rows[1] != rows[2]


def changed(study, path, value):
    """Change one number of the results by a hair, and keep those of its run alone."""
    frame = read(path)
    row = frame.index[(frame["metric"] == "wauc") & (frame["split"] == "test")][0]
    frame.loc[row, "value"] += value
    run = frame.loc[row, "run"]
    write(frame[(frame["run"] == run) & (frame["against"] == "")], path)
    return run


def test_a_number_that_differs_is_told(smoke):
    run = changed(smoke, layout.results_file("smoke"), 1e-9)
    result = CliRunner().invoke(app, ["verify", "--tier", "smoke", "--sample", "100000"])
    assert result.exit_code == 1
    assert result.output.count("DIFFERS") == 1
    row = next(line for line in result.output.splitlines() if "DIFFERS" in line)
    assert row.split()[1].startswith(run[:8])


def test_what_is_the_same_exits_with_0(smoke):
    result = CliRunner().invoke(app, ["verify", "--tier", "smoke", "--sample", "5"])
    assert result.exit_code == 0, result.output
    assert "5 of 5 numbers are the same" in " ".join(result.output.split())


def first_with_logits(study):
    return next(run for run in study.runs if run.arm == "mlora")


def test_a_damaged_file_is_told_even_where_its_number_is_not(smoke):
    run = first_with_logits(smoke)
    file = layout.run_artifacts("smoke", run) / "test.npy"
    np.save(file, np.load(file).astype(np.float64))
    wrong = [check for check in verify(smoke, 300, seed=0).checks if check.damaged]
    assert {check.row["split"] for check in wrong} == {"test"}
    paths = {run.path.as_posix()}
    assert all({check.row["run"], check.row["against"]} & paths for check in wrong)
    assert str(file) in wrong[0].damaged[0]


def test_runs_without_files_are_counted_by_reason(smoke):
    gone, other = (
        next(run for run in smoke.runs if run.arm == arm) for arm in ("mlora", "moe_mlora")
    )
    (layout.run_artifacts("smoke", gone) / "test.npy").unlink()
    index = layout.job_index("smoke", other.job)
    listed = read_json(index, "")
    for entry in listed["runs"]:
        entry["key"] = "of another training"
    write_json(index, listed, sealed=True)
    found = verify(smoke, 300, seed=0)
    assert found.others == Counter(
        {
            "predictions not here": 1,
            "predictions here of another training": len(listed["runs"]),
        }
    )
    left_out = {gone.path.as_posix(), *(entry["path"] for entry in listed["runs"])}
    assert all(not {check.row["run"], check.row["against"]} & left_out for check in found.checks)


def test_other_data_are_told(smoke):
    run = first_with_logits(smoke)
    card = layout.card(run.dataset)
    change_json(card, content="other")
    on_it = load(smoke).numbers.query("dataset == @run.dataset")["run"].nunique()
    assert verify(smoke, 1, seed=0).others == {"data or split here are others": on_it}


def test_without_any_predictions_it_is_an_error(smoke):
    for file in layout.artifacts("smoke").rglob("runs.json"):
        file.unlink()
    with pytest.raises(UserError, match=r"predictions not here: \d+ runs.*domain-experts pull"):
        everything(smoke)
