"""What is still to train, and what that takes."""

import contextlib
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from domain_experts.errors import UserError
from domain_experts.evaluation.registry import AUCS
from domain_experts.presence import load_study
from domain_experts.reporting.differences import differences
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.plan import plan, process_notes, search_costs, seconds
from domain_experts.reporting.simulation import power
from domain_experts.results import NOT_RUN, STALE, load


@pytest.fixture(scope="module")
def of(fabricated_tree):
    """A study of which every third run was made by other code, and every fourth not at all."""
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        whole = load(study)
        records = {path: dict(record) for path, record in whole.records.items()}
        for path in [*records][::3]:
            records[path]["provenance"] = records[path]["provenance"] | {"code": "old"}
        for path in [*records][::4]:
            del records[path]
        stored = whole.stored[whole.stored["run"].isin([*records, ""])]
        found = Frames(dataclasses.replace(whole, records=records, stored=stored))
        assert {STALE, NOT_RUN} < set(found.about["status"])
        return found


def test_what_is_to_make_counts_once_and_with_what_it_starts_from(of):
    made = plan(of).numbers
    wanted = of.about[of.about["status"].isin([STALE, NOT_RUN])]
    assert made["runs"].sum() == len(wanted)
    first = made["experiment"].iloc[0]
    own = [run.path.as_posix() for run in of.study.in_order(of.study.expected[first])]
    assert made["runs"].iloc[0] == wanted["run"].isin(own).sum()


def test_a_cost_is_that_of_runs_alike(of):
    made = plan(of).numbers
    runs = of.runs.set_index("run")
    # searches that are not made come before their runs
    total, known = search_costs(of)["wall_s"].sum(), 0
    for path in (run.path.as_posix() for run in of.study.expected_runs):
        row = runs.loc[path]
        if row["status"] not in (STALE, NOT_RUN):
            continue
        cost = row["wall_s"]
        for keys in (["backbone", "arm", "variant"], ["backbone", "arm"], ["arm"]):
            if np.isnan(cost):
                alike = runs[(runs[["dataset", *keys]] == row[["dataset", *keys]]).all(axis=1)]
                cost = alike["wall_s"].mean()
        known += not np.isnan(cost)
        total += np.nan_to_num(cost)
    assert (made["runs"] - made["unknown"]).sum() == known > 0
    assert made["together_s"].iloc[-1] == pytest.approx(total)


def test_what_fits_goes_by_the_order_of_the_experiments(of):
    all_of_it = plan(of).numbers["together_s"].iloc[-1]
    whole = plan(of, all_of_it).numbers
    # what is of unknown cost does not fit
    assert (whole["fit"] == whole["runs"] - whole["unknown"]).all()
    half = plan(of, all_of_it / 2).numbers
    full = (half["fit"] == half["runs"] - half["unknown"]).to_list()
    assert 0 < half["fit"].sum() < half["runs"].sum()
    assert full == sorted(full, reverse=True)
    whole = half[half["together_s"] <= all_of_it / 2]
    assert (whole["fit"] == whole["runs"] - whole["unknown"]).all()


def test_trials_of_searches_count_before_the_runs_that_wait_for_them(monkeypatch):
    # they need every difference of the tier
    monkeypatch.setattr("domain_experts.reporting.plan._notes", lambda of: [])
    of = frames(load_study("paper"))
    waiting = [s for s in of.study.searches if s.dataset == "planted"]
    for search in waiting:
        del of.results.searches[search]
    of.runs.loc[of.runs["arm"] == "lightgbm", "wall_s"] = np.nan
    every = of.study.params.experiments["tuned"].search.trials["paper"]
    starts = of.study.params.experiments["tuned"].search.starts_from
    row = plan(of, 1e9).numbers.set_index("experiment").loc["tuned"]
    assert row["trials"] == sum(every // 2 if s.arm in starts else every for s in waiting)
    found = search_costs(of).query("experiment == 'tuned'").set_index("search")
    assert list(found.index) == waiting
    assert found["wall_s"].notna().any()
    seconds = of.runs.groupby(["dataset", "arm"])["wall_s"].mean()
    for search, own in found.iterrows():
        if search.arm == "mlora":
            expected = own["trials"] * seconds.get((search.dataset, "mlora"), np.nan)
            assert own["wall_s"] == pytest.approx(expected, nan_ok=True)
    # of a search of unknown cost nobody knows when its runs begin
    assert [search.arm for search in found.index[found["wall_s"].isna()]] == ["lightgbm"]
    assert row["unknown"] == every


def test_the_power_is_that_of_the_stored_errors(of):
    (note,) = (note for note in plan(of).notes if note.startswith("Power"))
    own = differences(of).query("dataset == 'planted' and over != 'best_floor'")
    own = own[own["metric"].isin(AUCS) & own["gain_sd"].notna()]
    assert own["user_se"].notna().all()
    errors = own["user_se"].median(), own["gain_sd"].median()
    three, five = (f"{100 * power(0.005, *errors, seeds):.0f}" for seeds in (3, 5))
    assert f"planted {three} and {five} %" in note


@pytest.mark.parametrize("count", [1, 2])
def test_processes_that_share_a_run_are_told(of, count):
    params = of.study.params.model_copy(update={"processes": count})
    said = process_notes(SimpleNamespace(study=SimpleNamespace(params=params)))
    assert [f"takes {count} cores" in note for note in said] == [True] * (count - 1)


@pytest.mark.parametrize(("text", "value"), [("90m", 5400), ("2h", 7200), ("1.5h", 5400)])
def test_a_budget(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["2", "h", "0h", "-1h", "2 days"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(UserError, match="is no time; write 90m or 2h"):
        seconds(text)
