"""A finished run is a line, with the share of the workflow that is done."""

import re

import pytest

from domain_experts.suggest import unknown
from domain_experts.training.progress import TALLY, Progress, start_tally


def test_finished_runs_are_counted_over_all_processes(tmp_path, monkeypatch, capsys):
    tally = tmp_path / "logs" / "runs.tally"
    start_tally(tally, 12)
    monkeypatch.setenv(TALLY, str(tally))
    for _ in range(3):
        # each job is a process of its own: nothing but the file is shared
        Progress("planted/mlp/base seed=1").done("validation AUC .8123  3.1 s")
    lines = capsys.readouterr().err.splitlines()
    shares = [re.match(r"\[ (\d)/12 +(\d+)%  \d+ s left\] planted/mlp", line) for line in lines]
    assert [found.groups() for found in shares] == [("1", "8"), ("2", "17"), ("3", "25")]
    start_tally(tally, 1)
    Progress("again").done("3 s")
    assert capsys.readouterr().err == "[1/1 100%  0 s left] again  3 s\n"


def test_outside_a_workflow_no_share_is_told(monkeypatch, capsys):
    monkeypatch.delenv(TALLY, raising=False)
    Progress("planted/mlp/base seed=1").done("3.1 s")
    assert capsys.readouterr().err == "planted/mlp/base seed=1  3.1 s\n"


def test_only_a_long_run_tells_its_epochs(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("a run")
    for seconds in (10, 20, 29, 31):
        now[0] = seconds
        progress.trained("gates", 1, 1, rows=1000, seconds=1.0, best=0.7, left=3)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "hint"),
    [("quik", "did you mean quick?"), ("huge", "known are smoke, quick, paper")],
)
def test_a_name_that_is_close_is_suggested(name, hint):
    said = unknown("tier", name, ("smoke", "quick", "paper"))
    assert said == f"tier '{name}' is unknown; {hint}"
