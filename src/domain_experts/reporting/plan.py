"""What a tier still has to train, and what that takes by the records of earlier runs."""

import re

import pandas as pd
from rich.console import Console

from domain_experts.errors import UserError
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.render import MISSING, Shown, Table, number, terminal
from domain_experts.results import ABSENT, NOT_RUN, STALE
from domain_experts.study import Study

ALIKE = (
    ["dataset", "backbone", "arm", "variant"],
    ["dataset", "backbone", "arm"],
    ["dataset", "arm"],
)
"""What runs have in common whose mean cost stands for that of one to make, the nearest first."""
COST = ["wall_s", "peak_memory_mb"]
SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """A time such as `90m` or `2h`, in seconds.

    Raises:
        UserError: it is none, or zero.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if found is None or float(found[1]) == 0:
        raise UserError(f"--budget '{text}' is no time; write 90m or 2h")
    return float(found[1]) * SECONDS[found[2]]


def print_plan(study: Study, budget: str | None) -> None:
    """Print what `plan` says.

    Raises:
        UserError: the results are missing or cannot be used; the budget is no time.
    """
    within = None if budget is None else seconds(budget)
    made, console = plan(frames(study), within), Console()
    console.print(terminal(made))
    for note in made.notes:
        console.print(note, soft_wrap=True)


def plan(of: Frames, budget: float | None = None) -> Table:
    """Runs of each experiment that are stale or not run, with their time on one core and memory.

    What a run starts from is made with it. A run that several experiments need counts in the
    first of them, in the order of params.yaml. With a budget, in seconds: how many fit into it.
    """
    costs, total = _costs(of), 0.0
    rows = []
    for name in experiments(of.study):
        wanted = [run.path.as_posix() for run in of.study.in_order(of.study.expected[name])]
        own = costs.loc[[path for path in wanted if path in costs.index]]
        costs = costs.drop(own.index)
        if len(own):
            ends = total + own["wall_s"].fillna(0).cumsum()
            total = ends.iloc[-1]
            known, fitting = int(own["wall_s"].notna().sum()), ends <= (budget or 0)
            memory = own["peak_memory_mb"].max()
            rows.append((name, len(own), known, ends.iloc[-1], memory, int(fitting.sum())))
    columns = ["experiment", "runs", "known", "together_s", "peak_memory_mb", "fit"]
    frame = pd.DataFrame(rows, columns=columns)
    hours = (
        frame["together_s"].diff().fillna(frame["together_s"]) / 3600,
        frame["together_s"] / 3600,
    )
    shown = [
        Shown("Runs", [number(n, 0) for n in frame["runs"]]),
        Shown("Known", [number(n, 0) for n in frame["known"]]),
        *(
            Shown(head, [number(value, 2) for value in own])
            for head, own in zip(("Hours", "Together"), hours, strict=True)
        ),
        Shown("MB", [number(n, 0) for n in frame["peak_memory_mb"]]),
    ]
    if budget is not None:
        shown.append(Shown(f"In {budget / 3600:g} h", [number(n, 0) for n in frame["fit"]]))
    named = frame[["experiment"]].rename(columns=str.capitalize)
    caption = f"Runs to make of tier {of.study.tier}, how many of known cost, hours on one core."
    return Table.of("plan", caption, frame, named, shown, _notes(of))


def _costs(of: Frames) -> pd.DataFrame:
    """Cost of each run to make, in the order of `Study.expected_runs`; NaN where none is known."""
    order = [run.path.as_posix() for run in of.study.expected_runs]
    runs = of.runs.set_index("run").loc[order]
    costs = runs[COST]
    for keys in ALIKE:
        costs = costs.fillna(runs.groupby(keys)[COST].transform("mean"))
    return costs[runs["status"].isin([STALE, NOT_RUN])]


def _notes(of: Frames) -> list[str]:
    machines = sorted(of.runs["machine"].dropna().unique())
    absent = int((of.about["status"] == ABSENT).sum())
    return [
        "Hours are means over earlier runs of the same arm on the same data set, as measured on "
        f"{'; '.join(machines) or MISSING}. A run of unknown cost counts as none.",
        *[f"{absent} runs on data that are not present are left out."] * bool(absent),
    ]
