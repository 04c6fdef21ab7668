"""What the jobs of a tier take on a cluster, by the records of earlier runs."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from domain_experts.errors import UserError
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.plan import COST, costs, process_notes, search_costs
from domain_experts.reporting.render import MISSING, Shown, Table, number, terminal
from domain_experts.reporting.scaling import PHASES, scaling
from domain_experts.results import NOT_RUN, STALE
from domain_experts.runs import Job, Search
from domain_experts.study import Study
from domain_experts.suggest import unknown
from domain_experts.yaml_files import read_yaml

PROFILES = Path("workflow/profiles")
NODES = (1, 4, 16, 64)
GROUP = "training"
"""The group of the profile that training jobs and searches are submitted in."""


@dataclass(frozen=True)
class Profile:
    """What a workflow profile asks a cluster for."""

    name: str
    cores: int
    """Of a submission."""
    components: int
    """Chains of jobs that start from one another, in a submission."""
    memory_mb: int
    """Of a job, at its first try."""
    minutes: int
    """Time limit of a job."""

    @classmethod
    def read(cls, name: str) -> "Profile":
        """That of `workflow/profiles/<name>`.

        Raises:
            UserError: there is none, or it does not say how jobs are grouped.
        """
        path = PROFILES / name / "config.yaml"
        if not path.is_file():
            known = [p.parent.name for p in sorted(PROFILES.glob("*/config.yaml"))]
            raise UserError(unknown("profile", name, known, f"profiles are in {PROFILES}"))
        values: dict[str, Any] = read_yaml(path)
        try:
            resources = values["default-resources"]
            return cls(
                name,
                cores=int(values["cores"]),
                components=int(values["group-components"][GROUP]),
                memory_mb=_amount(resources["mem_mb"]),
                minutes=_amount(resources["runtime"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} does not say {error}; a plan needs cores (a number), group-components "
                f"of the group {GROUP}, and default-resources with mem_mb and runtime"
            ) from None


def _amount(value: object) -> int:
    """A resource at the first try: `4000 * attempt` is 4000."""
    return int(str(value).partition("*")[0])


def print_cluster_plan(study: Study, profile: str, node_cores: int) -> None:
    """Print what `plan --profile` says.

    Raises:
        UserError: there is no such profile, its jobs do not fit a node, or the results are missing
            or cannot be used.
    """
    asked = Profile.read(profile)
    if node_cores < asked.cores:
        raise UserError(
            f"--node-cores {node_cores}: a submission of the profile {profile} asks for "
            f"{asked.cores} cores of one node; lower its `cores`"
        )
    of, console = frames(study), Console()
    grown = scaling(of, asked.memory_mb, asked.minutes)
    for made in filter(None, (cluster_plan(of, asked, node_cores), grown)):
        console.print(terminal(made))
        for note in made.notes:
            console.print(note, soft_wrap=True)
    if grown is None:
        console.print(f"No runs of {', '.join(PHASES.values())}: nothing to reckon larger data by.")


@dataclass
class _Row:
    """A job of `jobs`."""

    job: str
    rows_read: float
    runs: int = 0
    unknown: int = 0
    seconds: float = 0.0
    memory_mb: float = np.nan
    read: float = 0.0
    written: float = 0.0
    after: set[int] = field(default_factory=set)

    def add(self, runs: int, seconds: float) -> None:
        """Count runs, or trials, that take so long together."""
        self.runs += runs
        self.unknown += runs * bool(np.isnan(seconds))
        self.seconds += np.nan_to_num(seconds)


def jobs(of: Frames) -> pd.DataFrame:
    """Training jobs and searches that are still to make, a row each.

    Returns:
        `job` (path), `runs` (runs and trials), `unknown` (of them, those of unknown cost),
        `seconds` on one core and `memory_mb` of those of known cost, `rows_read` (of
        its data set, NaN where no run has told), `read` (bytes of the weights that it starts
        from), `written` (of its weights and logits), `after` (positions of the jobs that it starts
        from).
    """
    study, every = of.study, costs(of)
    status = of.about.set_index("run")["status"]
    paths = {run: run.path.as_posix() for run in study.expected_runs}
    runs = [run for run, path in paths.items() if status[path] in (STALE, NOT_RUN)]
    searches = search_costs(of)
    names: list[Search | Job] = [*searches["search"], *dict.fromkeys(run.job for run in runs)]
    place = {name: i for i, name in enumerate(names)}
    sizes = of.runs.groupby("dataset")["rows"].mean()
    rows = [_Row(name.path.as_posix(), float(sizes[name.dataset])) for name in names]
    for search, trials, took in zip(
        searches["search"], searches["trials"], searches["wall_s"], strict=True
    ):
        row = rows[place[search]]
        row.add(trials, took)
        row.after |= {place[before] for before in (study.first(search),) if before in place}
    for run in runs:
        row, before = rows[place[run.job]], study.upstream(run)
        seconds, memory, kept = every.loc[paths[run], COST].to_numpy(float)
        row.add(1, float(seconds))
        row.memory_mb = float(np.fmax(row.memory_mb, memory))
        row.written += np.nan_to_num(kept)
        row.read += every["bytes"][[paths[up] for up in before]].sum()
        row.after |= {
            place[name] for name in (*(u.job for u in before), run.search) if name in place
        }
    return pd.DataFrame([vars(row) for row in rows], columns=[f.name for f in fields(_Row)])


def submissions(after: Sequence[set[int]], components: int) -> list[list[int]]:
    """Jobs by submission: those that start from one another together, `components` such sets."""
    pairs = [(i, j) for i, own in enumerate(after) for j in own]
    first, second = zip(*pairs, strict=True) if pairs else ((), ())
    shape = (len(after), len(after))
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape)
    count, label = connected_components(graph, directed=False)
    members = [np.flatnonzero(label == c).tolist() for c in range(count)]
    starts = range(0, count, components)
    return [[*chain(*members[start : start + components])] for start in starts]


def makespan(seconds: Sequence[float], after: Sequence[set[int]], slots: int) -> float:
    """Seconds until all jobs end, `slots` of them at a time, the longest chain to the end first.

    Args:
        seconds: of each job.
        after: positions of the jobs that each waits for.
        slots: jobs at a time.
    """
    order = [*TopologicalSorter(dict(enumerate(after))).static_order()]
    rest = [0.0] * len(seconds)
    for i in reversed(order):
        rest[i] += seconds[i]
        for j in after[i]:
            rest[j] = max(rest[j], rest[i])
    waiting = [len(own) for own in after]
    followers: list[list[int]] = [[] for _ in seconds]
    for i, own in enumerate(after):
        for j in own:
            followers[j].append(i)
    ready = [(-rest[i], i) for i in order if not waiting[i]]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            _, i = heapq.heappop(ready)
            heapq.heappush(running, (now + seconds[i], i))
        now, ended = heapq.heappop(running)
        for i in followers[ended]:
            waiting[i] -= 1
            if not waiting[i]:
                heapq.heappush(ready, (-rest[i], i))
    return now


def cluster_plan(of: Frames, profile: Profile, node_cores: int) -> Table:
    """Jobs, submissions, core hours, memory and transfers, and the time that n nodes take.

    The jobs of a submission run on its cores; nodes take as many submissions as they have cores
    for. What is of unknown cost counts as none, and no time in the queue is counted.
    """
    frame = jobs(of)
    if frame.empty:
        raise UserError(f"nothing of tier {of.study.tier} is left to make; there is no plan")
    seconds, after = frame["seconds"].tolist(), frame["after"].tolist()
    groups = submissions(after, profile.components)
    spans = [_within(own, seconds, after, profile.cores) for own in groups]
    # a submission's limit is the sum over what can run at a time
    limits = [60 * profile.minutes * math.ceil(len(own) / profile.cores) for own in groups]
    late = sum(span > limit for span, limit in zip(spans, limits, strict=True))
    free = [set[int]()] * len(groups)
    each = node_cores // profile.cores
    hours = {n: makespan(spans, free, n * each) / 3600 for n in NODES}
    values = {
        "jobs": len(frame),
        "runs": frame["runs"].sum(),
        "unknown": frame["unknown"].sum(),
        "submissions": len(groups),
        "core_hours": sum(seconds) / 3600,
        "longest_job_h": max(seconds) / 3600,
        "longest_submission_h": max(spans) / 3600,
        "memory_mb": frame["memory_mb"].max(),
        "rows_read": frame["rows_read"].sum(),
        "read_gb": frame["read"].sum() / 1e9,
        "written_gb": frame["written"].sum() / 1e9,
        **{f"hours_{n}": value for n, value in hours.items()},
    }
    rows = [
        ("Jobs", number(values["jobs"], 0)),
        ("Runs and trials in them", number(values["runs"], 0)),
        ("- of unknown cost, in no number below", number(values["unknown"], 0)),
        ("Submissions", number(values["submissions"], 0)),
        ("Core hours", number(values["core_hours"], 2)),
        ("Longest job, hours", number(values["longest_job_h"], 2)),
        ("Longest submission, hours", number(values["longest_submission_h"], 2)),
        ("Memory of a job at most, MB", number(values["memory_mb"], 0)),
        ("Rows read from the shared folder, millions", number(values["rows_read"] / 1e6, 0)),
        ("Weights read from it, GB", number(values["read_gb"], 2)),
        ("Weights and logits written to it, GB", number(values["written_gb"], 2)),
        *((f"Hours on {n} nodes", number(value, 2)) for n, value in hours.items()),
    ]
    numbers = pd.DataFrame([{"tier": of.study.tier, "profile": profile.name, **values}])
    words = pd.DataFrame({"What": [head for head, _ in rows]})
    return Table.of(
        "cluster_plan",
        f"What is still to make of tier {of.study.tier} on a cluster, by the profile "
        f"{profile.name}, with {node_cores} cores a node.",
        numbers,
        words,
        [Shown("Amount", [text for _, text in rows])],
        _notes(of, frame, profile, late),
    )


def _within(
    own: Sequence[int], seconds: Sequence[float], after: Sequence[set[int]], cores: int
) -> float:
    """Seconds that a submission takes."""
    place = {job: i for i, job in enumerate(own)}
    return makespan([seconds[i] for i in own], [{place[j] for j in after[i]} for i in own], cores)


def _notes(of: Frames, frame: pd.DataFrame, profile: Profile, late: int) -> list[str]:
    machines = sorted(of.runs["machine"].dropna().unique())
    large = frame[frame["memory_mb"] > profile.memory_mb]
    away = frame["rows_read"].isna().sum()
    found = [
        f"By means over earlier runs, as measured on {'; '.join(machines) or MISSING}. Time in the "
        "queue and the start of submissions are not in it.",
        *process_notes(of),
    ]
    if not large.empty:
        found.append(
            f"{len(large)} jobs take more than the profile's {profile.memory_mb:,} MB, such as "
            f"{large['job'].iloc[0]}: they are killed, and tried again with more."
        )
    if late:
        found.append(
            f"{late} submissions take longer than the profile's {profile.minutes} minutes a job: "
            "they are killed, and go on from their checkpoint."
        )
    if away:
        found.append(f"Rows that {away} jobs read are not counted: no run on their data is there.")
    return found
