"""What a tier takes on a cluster: the arithmetic of the plan, and of what would be larger."""

import contextlib
import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from projects import ROOT

from domain_experts.errors import UserError
from domain_experts.reporting.cluster_plan import (
    NODES,
    Profile,
    cluster_plan,
    jobs,
    makespan,
    print_cluster_plan,
    submissions,
)
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.plan import plan
from domain_experts.reporting.scaling import MOST_DOMAINS, Measured, line, needs, scaling
from domain_experts.results import NOT_RUN, STALE

PROFILE = Profile("test", cores=2, components=3, memory_mb=4000, minutes=60)


@pytest.fixture(scope="module")
def of(fabricated_tree):
    """A study of which every third run is not made."""
    folder, study = fabricated_tree
    with contextlib.chdir(folder):
        whole = frames(study).results
        records = {path: dict(record) for path, record in whole.records.items()}
        for path in [*records][::3]:
            del records[path]
        stored = whole.stored[whole.stored["run"].isin([*records, ""])]
        return Frames(dataclasses.replace(whole, records=records, stored=stored))


@st.composite
def graphs(draw):
    """Seconds of some jobs, and the earlier jobs that each waits for."""
    seconds = draw(st.lists(st.floats(0.1, 9), min_size=1, max_size=8))
    after = [set(draw(st.sets(st.integers(0, i - 1)))) if i else set() for i in range(len(seconds))]
    return seconds, after


def longest(seconds, after):
    ends = []
    for own, before in zip(seconds, after, strict=True):
        ends.append(own + max((ends[j] for j in before), default=0))
    return max(ends)


@given(graphs(), st.integers(1, 4))
def test_a_makespan_is_within_its_bounds(graph, slots):
    seconds, after = graph
    found = makespan(seconds, after, slots)
    chain, work = longest(seconds, after), sum(seconds)
    assert found >= max(chain, work / slots) - 1e-9
    # Graham 1966: of any list
    assert found <= work / slots + (1 - 1 / slots) * chain + 1e-9


@given(graphs())
def test_one_slot_takes_the_sum_and_enough_slots_the_longest_chain(graph):
    seconds, after = graph
    assert makespan(seconds, after, 1) == pytest.approx(sum(seconds))
    assert makespan(seconds, after, len(seconds)) == pytest.approx(longest(seconds, after))


@given(graphs(), st.integers(1, 3))
def test_jobs_that_wait_for_one_another_are_submitted_together(graph, components):
    _, after = graph
    found = submissions(after, components)
    assert sorted(itertools.chain(*found)) == list(range(len(after)))
    home = {job: i for i, own in enumerate(found) for job in own}
    assert all(home[i] == home[j] for i, before in enumerate(after) for j in before)
    # a slow obvious version: spread the smallest number along the edges
    label = list(range(len(after)))
    for _ in after:
        for i, before in enumerate(after):
            for j in before:
                label[i] = label[j] = min(label[i], label[j])
    assert len(found) == -(-len(set(label)) // components)


def test_jobs_hold_every_run_that_is_to_make_once(of, monkeypatch):
    # they need every difference of the tier
    monkeypatch.setattr("domain_experts.reporting.plan._notes", lambda of: [])
    found = jobs(of)
    wanted = of.about[of.about["status"].isin([STALE, NOT_RUN])]
    by_experiment = plan(of).numbers
    trials = by_experiment["trials"].sum()
    assert found["runs"].sum() == len(wanted) + trials > trials > 0
    assert found["job"].is_unique
    trained = found[~found["job"].str.startswith("search/")]
    assert set(trained["job"]) == {run.rsplit("/", 2)[0] for run in wanted["run"]}
    assert found["seconds"].sum() == pytest.approx(by_experiment["together_s"].iloc[-1])
    assert found["unknown"].sum() == by_experiment["unknown"].sum()
    assert found["memory_mb"].max() == by_experiment["peak_memory_mb"].max()
    arms = [job.rsplit("/", 1)[1] for job in found["job"]]
    gates = [i for i, arm in enumerate(arms) if arm == "moe_mlora"]
    starts = {arms[j] for i in gates for j in found["after"][i]}
    assert starts == {"base", "experts"}


def test_more_nodes_take_no_longer_and_no_more_core_hours(of):
    row = cluster_plan(of, PROFILE, node_cores=4).numbers.iloc[0]
    hours = [row[f"hours_{n}"] for n in NODES]
    assert hours == sorted(hours, reverse=True)
    assert hours[0] >= row["core_hours"] / 4
    assert row["longest_job_h"] <= hours[-1]
    assert row["submissions"] <= row["jobs"]


def test_what_does_not_fit_the_profile_is_said(of):
    tight = dataclasses.replace(PROFILE, memory_mb=1)
    said = " ".join(cluster_plan(of, tight, 4).notes)
    assert "take more than the profile's 1 MB" in said
    assert "submissions take longer" not in said
    short = dataclasses.replace(PROFILE, minutes=0)
    assert "submissions take longer" in " ".join(cluster_plan(of, short, 4).notes)


def test_the_plan_of_a_finished_study_says_so(of, monkeypatch):
    none = jobs(of).iloc[:0]
    monkeypatch.setattr("domain_experts.reporting.cluster_plan.jobs", lambda _: none)
    with pytest.raises(UserError, match="nothing of tier"):
        cluster_plan(of, PROFILE, 4)


def test_the_profile_of_the_repository_can_be_planned_by():
    with contextlib.chdir(ROOT):
        found = Profile.read("slurm")
    assert found.cores >= 1 and found.components >= 1
    assert found.memory_mb > 1000 and found.minutes > 0


def test_what_a_plan_cannot_use_is_refused(project, of):
    with pytest.raises(UserError, match="profile"):
        Profile.read("slurm")
    folder = project / "workflow/profiles/slurm"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("cores: 4\n")
    with pytest.raises(UserError, match="default-resources"):
        Profile.read("slurm")
    (folder / "config.yaml").write_text(
        "cores: 4\ngroup-components: {training: 2}\n"
        "default-resources: {mem_mb: 3000 * attempt, runtime: 20}\n"
    )
    assert Profile.read("slurm") == Profile("slurm", 4, 2, 3000, 20)
    with pytest.raises(UserError, match="--node-cores 2"):
        print_cluster_plan(of.study, "slurm", 2)


def test_a_line_is_found_again():
    domains = np.array([2, 4, 8, 64])
    runs = pd.DataFrame({"domains": domains, "train_rows_per_s": 1 / (5e-6 + 3e-7 * domains)})
    assert line(runs) == pytest.approx((5e-6, 3e-7))


def test_needs_grow_with_rows_and_domains_and_the_largest_is_first():
    known = Measured(
        dict.fromkeys(("backbone", "experts", "gate"), (1e-6, 1e-7)),
        backbone=1e5,
        expert=1e4,
        train=0.5,
        batch=1000,
        width=100,
    )
    assert known.hours("gate", 3600e6, 10) == pytest.approx(1)
    # 8 GB of order, 0.04 GB of experts, 4 GB of a batch's outputs of 1000 experts
    assert known.memory("gate", 1e9, 1000) == pytest.approx(8e9 + 4e7 + 4e8)
    small, large = (needs(known, 10**n, 10, 4000, 60) for n in (6, 9))
    assert all(large[name] >= small[name] for name in small)
    assert list(large.values()) == sorted(large.values(), reverse=True)
    assert needs(known, 1, MOST_DOMAINS, 1e12, 1e12)["domains"] == 1


def test_scaling_reads_what_runs_took(of):
    made = scaling(of, 4000, 60)
    assert (made.numbers["times"] > 0).all()
    assert len(made.notes) == made.numbers["first"].nunique()
    gone = of.runs[of.runs["arm"] != "experts"]
    without = Frames(of.results)
    without.__dict__["runs"] = gone
    assert scaling(without, 4000, 60) is None
