"""What to take of a study of one log, in numbers: the arm, its gains, its cost, how sure it is."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from domain_experts.registry import ARMS, BEST_FLOOR, REFERENCE
from domain_experts.reporting.answer import candidate_cells
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.columns import column, run_label
from domain_experts.reporting.differences import differences
from domain_experts.reporting.frame import Frames, over_seeds, over_status
from domain_experts.reporting.statistics import (
    BETTER,
    Floats,
    bounds,
    margin_of,
    verdicts,
)

SIMPLE = (BEST_FLOOR, REFERENCE, "mlora")
"""What an arm must be better than to be worth its cost, the simplest first."""
MOST_SEEDS = 100
"""Seeds beyond which more of them are no advice."""
CANDIDATE = ["backbone", "arm", "variant"]
Row = Mapping[Hashable, Any]


@dataclass(frozen=True)
class Needed:
    """What an interval would take to decide, if the difference stayed as it is."""

    seeds: int | None
    """That many do it alone, with the same rows; None: no number of them does."""
    rows: float | None
    """Times the test rows, with `seeds_with_rows`; None: not known, or not to be had."""
    seeds_with_rows: int


@dataclass(frozen=True)
class Choice:
    """The arm that is best on validation rows, and how it stands to what is simpler."""

    best: Row
    """Its row: backbone, arm, variant, validation and test metric."""
    label: str
    against: pd.DataFrame
    """A row for each simpler reference, of `differences`, the simplest first, with its `label`."""
    candidates: int
    blocked: Row | None
    """The first of `against` that it is not better than."""


@lru_cache(maxsize=1)
def choice(of: Frames) -> Choice | None:
    """What the study's first experiment says of its first data set; None without numbers."""
    name, dataset, metric = asked(of)
    runs = of.of(name)
    runs = runs[(runs["dataset"] == dataset) & ~runs["arm"].map(lambda arm: ARMS[arm].planted)]
    apart = runs["split_seed"] != runs["seed"]
    # an arm that is tested on rows of its own is compared with nothing
    runs = runs if apart.all() else runs[~apart]
    runs = runs.join(of.validation[metric].rename("validation"), "run")
    frame = over_seeds(runs, CANDIDATE, ["validation", metric])
    known = frame[frame["validation"].notna()].reset_index(drop=True)
    if known.empty:
        return None
    sign = -1 if column(metric).better == "lower" else 1
    place = (sign * known["validation"]).to_numpy().argmax()
    best = known.to_dict("records")[place]
    found = differences(of)
    own = found[(found["experiment"] == name) & (found["dataset"] == dataset)]
    for key in CANDIDATE:
        own = own[own[key] == best[key]]
    arms = own["over"].map(_arm)
    own = own[arms.isin(SIMPLE) & (own["reference"].map(_arm) != best["arm"])]
    own = own.sort_values("over", key=lambda over: over.map(_arm).map(SIMPLE.index), kind="stable")
    own = own.reset_index(drop=True)
    own = own.assign(label=[run_label(*r.split("/")) for r in own["reference"]])
    stops = own[own["verdict"] != BETTER].to_dict("records")
    # a floor is as simple as anything is
    blocked = stops[0] if stops and not ARMS[best["arm"]].floor else None
    (label,) = candidate_cells(of, pd.DataFrame([best]).assign(experiment=name))
    return Choice(best, label, own, len(known), blocked)


def by_domain(of: Frames) -> tuple[pd.DataFrame, str]:
    """Differences of the best arm to Base in each domain and task, and Base in words.

    If Base is the best, they are to the best floor; if nothing is there to compare with, the frame
    is empty.

    Returns:
        domain, task, status, seeds, gain, low, high, verdict; by domain as they are declared.
    """
    columns = ["domain", "task", "status", "seeds", "gain", "low", "high", "verdict"]
    found = choice(of)
    rows = found.against if found else pd.DataFrame(columns=["over"])
    over = rows["over"].map(_arm)
    chosen = rows[over == REFERENCE] if (over == REFERENCE).any() else rows
    if found is None or chosen.empty:
        return pd.DataFrame(columns=columns), ""
    reference = chosen.iloc[0]
    arm, backbone = reference["reference"].split("/")
    name, dataset, _ = asked(of)
    gains = of.gains(name)
    gains = gains[(gains["dataset"] == dataset) & (gains["over"] == reference["over"])]
    for key in CANDIDATE:
        gains = gains[gains[key] == found.best[key]]
    keys = ["run", "domain", "task"]
    auc = of.domains[[*keys, "number", "auc"]]
    both = gains[["run", "other", "status"]].merge(auc, on="run")
    other = auc.drop(columns="number").rename(columns={"run": "other", "auc": "other_auc"})
    both = both.merge(other, on=["other", "domain", "task"])
    numbers = of.results.numbers
    for error in ("se", "user_se"):
        stored = numbers[numbers["metric"] == f"auc_difference_{error}"]
        stored = stored.rename(columns={"against": "other", "value": error})
        both = both.merge(
            stored[["run", "other", "domain", "task", error]],
            "left",
            ["run", "other", "domain", "task"],
        )
    both["gain"] = both["auc"] - both["other_auc"]
    both["variance"] = np.square(both["user_se"].fillna(both["se"]))
    both = both[both["gain"].notna()]
    groups = both.groupby(["number", "domain", "task"], sort=True)
    frame = pd.DataFrame(
        {
            "status": groups["status"].agg(over_status),
            "seeds": groups["gain"].count(),
            "gain": groups["gain"].mean(),
        }
    )
    error = np.sqrt(groups["variance"].mean())
    made = bounds(frame["gain"], groups["gain"].std(), frame["seeds"], error)
    # test rows of a few users may give the same AUC with each seed, and yet tell nothing
    known = {end: np.where(np.isnan(error), np.nan, made[end]) for end in ("low", "high")}
    frame = frame.assign(**known, gain_n=frame["seeds"])
    margin = margin_of(of.study.params, "auc")
    frame["verdict"] = verdicts(frame, margin)
    return frame.reset_index()[columns], run_label(arm, backbone)


def costs(of: Frames) -> pd.DataFrame:
    """Of each arm, backbone and variant its metric on validation and test rows, and its cost.

    `wall_s` sums what a run is trained from and its own training.
    """
    name, dataset, metric = asked(of)
    runs = of.of(name)
    runs = runs[runs["dataset"] == dataset].join(of.validation[metric].rename("validation"), "run")
    seconds = of.runs.set_index("run")["wall_s"]
    chains = [
        [up.path.as_posix() for up in of.study.in_order([of.results.expected[path]])]
        for path in runs["run"]
    ]
    runs["wall_s"] = [seconds.reindex(chain).sum(skipna=False) for chain in chains]
    values = ["validation", metric, "wall_s", "peak_memory_mb", "parameters"]
    frame = over_seeds(runs, CANDIDATE, values)
    lower = column(metric).better == "lower"
    return frame.sort_values("validation", ascending=lower, kind="stable", ignore_index=True)


def needed(gain: float, sd: float, n: int, error: float, margin: float) -> Needed:
    """What a difference's interval would take to exclude 0, or to lie within ± the margin.

    Args:
        gain: the difference, which is taken to stay as it is.
        sd: its standard deviation over seeds.
        n: seeds so far.
        error: standard error that the test users bring; NaN: not known.
        margin: NaN: nothing is equivalent.
    """
    target = np.nanmax([abs(gain), margin - abs(gain)])
    counts = np.arange(max(n, 2), MOST_SEEDS + 1)

    def narrow(error: Floats, seeds: ArrayLike, share: float = 1) -> NDArray[np.bool_]:
        width = bounds(np.zeros(len(error)), sd, seeds, error)["high"]
        return np.asarray(width < share * target)

    with_same_rows = counts[narrow(np.full(len(counts), error), counts)]
    seeds = int(with_same_rows[0]) if len(with_same_rows) else None
    if math.isnan(error):
        return Needed(seeds, None, n)
    # with rows without end, the seeds' own part is to leave room for that of the users
    enough = counts[narrow(np.zeros(len(counts)), counts, 0.7)]
    if not len(enough):
        return Needed(seeds, None, n)
    more = np.geomspace(1, 1e6, 2000)
    found = more[narrow(error / np.sqrt(more), np.full(len(more), enough[0]))]
    return Needed(seeds, float(found[0]) if len(found) else None, int(enough[0]))


def asked(of: Frames) -> tuple[str, str, str]:
    """The first experiment, its first data set, and its metric."""
    name = experiments(of.study)[0]
    experiment = of.study.params.experiments[name]
    return name, experiment.datasets[of.study.tier][0], experiment.metric


def _arm(reference: str) -> str:
    return reference.partition("/")[0]
