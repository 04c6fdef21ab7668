"""What a tier still has to train, and what that takes by the records of earlier runs."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from domain_experts.errors import UserError
from domain_experts.evaluation.registry import AUCS
from domain_experts.registry import BEST_FLOOR
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.differences import differences
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.render import MISSING, Shown, Table, number, terminal
from domain_experts.reporting.simulation import power
from domain_experts.results import ABSENT, CURRENT, NOT_RUN, STALE
from domain_experts.study import Study

ALIKE = (
    ["dataset", "backbone", "arm", "variant"],
    ["dataset", "backbone", "arm"],
    ["dataset", "arm"],
)
"""What runs have in common whose mean cost stands for that of one to make, the nearest first."""
COST = ["wall_s", "peak_memory_mb", "bytes"]
EFFECT, SEEDS = 0.005, (3, 5)
"""True difference in AUC, and numbers of seeds, whose power is told."""
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

    What a run starts from is made with it, and the searches of an experiment come before its runs.
    A run that several experiments need counts in the first of them, in the order of params.yaml.
    With a budget, in seconds: how many runs fit into it, of which none is of unknown cost.
    """
    costly, searches, total = costs(of), search_costs(of), 0.0
    status = of.about.set_index("run")["status"].loc[costly.index]
    costly = costly[status.isin([STALE, NOT_RUN])]
    rows = []
    for name in experiments(of.study):
        wanted = {run.path.as_posix(): run for run in of.study.in_order(of.study.expected[name])}
        own = costly.loc[[path for path in wanted if path in costly.index]]
        costly = costly.drop(own.index)
        first = searches[searches["experiment"] == name]
        if len(own) or len(first):
            unsure = {*first.loc[first["wall_s"].isna(), "search"]}
            sure = [wanted[path].search not in unsure for path in own.index]
            known = own["wall_s"].notna() & np.array(sure, bool)
            ends = total + first["wall_s"].sum() + own["wall_s"].fillna(0).cumsum()
            total += first["wall_s"].sum() + own["wall_s"].sum()
            unknown = first.loc[first["wall_s"].isna(), "trials"].sum() + own["wall_s"].isna().sum()
            rows.append(
                {
                    "experiment": name,
                    "runs": len(own),
                    "trials": first["trials"].sum(),
                    "unknown": unknown,
                    "together_s": total,
                    "peak_memory_mb": own["peak_memory_mb"].max(),
                    "fit": (known & (ends <= (budget or 0))).sum(),
                }
            )
    columns = ["experiment", "runs", "trials", "unknown", "together_s", "peak_memory_mb", "fit"]
    frame = pd.DataFrame(rows, columns=columns)
    hours = (
        frame["together_s"].diff().fillna(frame["together_s"]) / 3600,
        frame["together_s"] / 3600,
    )
    shown = [
        *(
            Shown(name.capitalize(), [number(n, 0) for n in frame[name]])
            for name in ("runs", "trials", "unknown")
        ),
        *(
            Shown(head, [number(value, 2) for value in own])
            for head, own in zip(("Hours", "Together"), hours, strict=True)
        ),
        Shown("MB", [number(n, 0) for n in frame["peak_memory_mb"]]),
    ]
    if budget is not None:
        shown.append(Shown(f"In {budget / 3600:g} h", [number(n, 0) for n in frame["fit"]]))
    named = frame[["experiment"]].rename(columns=str.capitalize)
    caption = (
        f"Runs and trials of searches to make of tier {of.study.tier}, how many of unknown cost, "
        "hours on one core."
    )
    return Table.of("plan", caption, frame, named, shown, _notes(of))


def costs(of: Frames) -> pd.DataFrame:
    """Cost of each expected run, in the order of `Study.expected_runs`; NaN where none is known.

    Returns:
        run (index), wall_s, peak_memory_mb and `bytes`, of its weights and logits.
    """
    order = [run.path.as_posix() for run in of.study.expected_runs]
    runs = of.runs.set_index("run").loc[order]
    runs["bytes"] = pd.Series({path: kept_bytes(own) for path, own in of.results.records.items()})
    found = runs[COST]
    for keys in ALIKE:
        found = found.fillna(runs.groupby(keys)[COST].transform("mean"))
    return found


def kept_bytes(record: Mapping[str, Any]) -> int:
    """Bytes of the weights and logits that a run leaves, by its record; float32 both."""
    rows = sum(sum(record["rows"][split]) for split in ("validation", "test"))
    return 4 * int(record["parameters"]["total"] + rows * len(record["tasks"]))


def search_costs(of: Frames) -> pd.DataFrame:
    """Searches to make: their trials, each for every seed of the search, and what all cost.

    A trial costs what the arm and all that it starts from cost on average on the data set; NaN
    where one of them has no runs there. Half of the trials of a search that starts from another are
    that one's.

    Returns:
        search, experiment, trials, wall_s (of all trials).
    """
    means = of.runs.groupby(["dataset", "arm"])["wall_s"].mean()
    rows = []
    for search in of.study.searches:
        if of.results.searches.get(search) == CURRENT:
            continue
        declared = of.study.declared(search)
        trials = declared.trials[of.study.tier]
        if of.study.first(search):
            trials -= trials // 2
        trials *= len(declared.seeds)
        runs = of.study.in_order([of.study.tuned(search, declared.seeds[0])])
        one = sum(means.get((run.dataset, run.arm), np.nan) for run in runs)
        rows.append((search, search.experiment, trials, trials * one))
    return pd.DataFrame(rows, columns=["search", "experiment", "trials", "wall_s"])


def _notes(of: Frames) -> list[str]:
    machines = sorted(of.runs["machine"].dropna().unique())
    absent = int((of.about["status"] == ABSENT).sum())
    return [
        "Hours are means over earlier runs of the same arm on the same data set, as measured on "
        f"{'; '.join(machines) or MISSING}. Runs and trials of unknown cost are not in them, and "
        "with a budget do not fit; a search counts with all its trials, though it may end sooner.",
        *[f"{absent} runs on data that are not present are left out."] * bool(absent),
        *process_notes(of),
        *_power_notes(of),
    ]


def process_notes(of: Frames) -> list[str]:
    """What hours leave out where several processes train a run together."""
    count = of.study.params.processes
    return [
        f"`processes` is {count}: a run that they train together takes {count} cores, and by how "
        "much it is shorter is not in these hours."
    ] * (count > 1)


def _power_notes(of: Frames) -> list[str]:
    """How many seeds tell an effect, by the errors of what is stored."""
    frame = differences(of)
    frame = frame[frame["metric"].isin(AUCS) & (frame["over"] != BEST_FLOOR)]
    known = frame.assign(error=frame["user_se"].fillna(frame["se"]))
    known = known.dropna(subset=["error", "gain_sd"])
    errors = known.groupby("dataset", sort=False)[["error", "gain_sd"]].median()
    parts = []
    for dataset, own in errors.iterrows():
        shares = (power(EFFECT, own["error"], own["gain_sd"], seeds) for seeds in SEEDS)
        parts.append(f"{dataset} {' and '.join(number(100 * share, 0) for share in shares)} %")
    return [
        f"Power: of studies with {' and '.join(map(str, SEEDS))} seeds, how many would call a true "
        f"difference in AUC of {EFFECT:g}, by the median errors of the data set's differences, by "
        f"user or, where that is not stored, DeLong's: {'; '.join(parts)}."
    ] * bool(parts)
