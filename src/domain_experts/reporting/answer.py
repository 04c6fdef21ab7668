"""The answer: in each experiment what is best, and whether it is better than its reference."""

from collections import Counter
from functools import lru_cache

import pandas as pd

from domain_experts.registry import ARMS, NO_BACKBONE
from domain_experts.reporting.catalog import experiments
from domain_experts.reporting.columns import (
    COLUMNS,
    STALE_MARK,
    STALE_MEANS,
    column,
    reference_label,
    run_label,
    stale_marked,
)
from domain_experts.reporting.differences import differences
from domain_experts.reporting.frame import Frames, over_status, status_counts
from domain_experts.reporting.notes import status_notes
from domain_experts.reporting.render import MISSING, Shown, Table, number
from domain_experts.reporting.statistics import (
    BETTER,
    EQUIVALENT,
    ONE_SEED,
    OUTCOMES,
    UNDECIDED,
    UNKNOWN,
    UNTESTED,
    WORSE,
    interval_notes,
)
from domain_experts.results import ABSENT, CURRENT, STALE
from domain_experts.runs import DEFAULT_VARIANT

NO_ANSWER = "No answer"
CANDIDATE = ["backbone", "arm", "variant"]
GROUP = ["experiment", "over", "dataset", "reference"]
"""Candidates that share these are held against one reference."""
_COLUMNS = [
    *(*GROUP, *CANDIDATE, "metric", "status", "gain", "gain_n", "low", "high", "error"),
    *("validation", "reference_validation", "verdict"),
]


@lru_cache(maxsize=1)
def gains(of: Frames) -> pd.DataFrame:
    """Every difference to a reference, over seeds: a row for each candidate and reference.

    An arm that is told the planted groups is no candidate: no data but generated ones have them.
    Nor is any of a metric of which `columns` does not say what is better.

    Columns: experiment, metric, over (the reference's name), dataset, reference (the run in
    words), backbone, arm, variant, status, gain, gain_n, low, high, verdict, and `validation` and
    `reference_validation`, the mean metric of the candidate and the reference on validation rows.
    """
    frame = differences(of)
    directed = frame["metric"].map(lambda metric: column(metric).better is not None).astype(bool)
    planted = frame["arm"].isin([arm for arm in ARMS if ARMS[arm].planted])
    frame = frame[directed & ~planted].reset_index(drop=True)
    labels = [run_label(*reference.split("/")) for reference in frame["reference"]]
    return frame.assign(reference=labels, gain_n=frame["seeds"])[_COLUMNS]


def best(of: Frames, frame: pd.DataFrame) -> pd.DataFrame:
    """Of `gains` over each experiment's first reference the candidates best on validation rows.

    Where no candidate has a number on validation rows, there is none.
    """
    first = {
        name: of.study.params.experiments[name].references[0] for name in set(frame["experiment"])
    }
    return _chosen(frame[frame["over"] == frame["experiment"].map(first)])


def answer(of: Frames) -> Table:
    """In each experiment the best on validation rows of all but the reference, on test rows."""
    frame = best(of, gains(of))
    named = pd.DataFrame(
        {
            "Experiment": frame["experiment"],
            "Data set": frame["dataset"],
            "Best of the others": candidate_cells(of, frame),
            "Against": frame["reference"],
            "Verdict": frame["verdict"],
        }
    )
    columns = [
        Shown("Difference", COLUMNS["gain"].cells(frame, "gain")),
        Shown("95 % interval", [*map(interval_cell, frame["low"], frame["high"], frame["status"])]),
        Shown("Metric", [column(metric).head for metric in frame["metric"]]),
        Shown("Seeds", [number(n, 0) for n in frame["gain_n"]]),
    ]
    caption = (
        "The answer of each experiment: of all arms or settings but the reference the best on "
        f"validation rows, and how far it is from the reference on test rows. Tier {of.study.tier}."
    )
    ahead = _worth(frame, "reference_validation") > _worth(frame, "validation")
    notes = [
        *interval_notes(frame["low"], frame["error"]),
        f"{EQUIVALENT.capitalize()}: the interval of a difference in AUC lies within "
        f"±{of.study.params.statistics.margin:g}; {UNDECIDED}: it holds 0, and more than that; "
        f"{ONE_SEED}: it is of the test users alone, as one seed does not tell how runs differ.",
        f"In {ahead.sum():,} of {len(frame):,} rows the reference itself is better on validation "
        "rows than the best of the others.",
    ]
    silent = [name for name in experiments(of.study) if name not in set(frame["experiment"])]
    reasons = pd.Series({name: _unanswered(of, name) for name in silent}, dtype="str")
    for why, own in reasons.groupby(reasons, sort=False):
        notes.append(f"No answer in {', '.join(own.index)}: {why}.")
    every = [*notes, *status_notes(of, of.about)]
    return Table.of("answer", caption, frame, named, columns, every)


def question(of: Frames) -> str:
    """What the first experiment asks: the study's own question."""
    names = experiments(of.study)
    return of.study.params.experiments[names[0]].question if names else "No experiment has runs."


def sentences(of: Frames) -> list[str]:
    """The answer in three sentences: the first experiment, all others, and how current it is."""
    names, frame = experiments(of.study), gains(of)
    if not names:
        return [f"No experiment of params.yaml has runs in tier {of.study.tier}."]
    main = frame["experiment"] == names[0]
    return [_first(of, names[0], frame[main]), _others(of, names, frame[~main]), currency(of)]


def line(of: Frames, name: str) -> str:
    """An experiment in one line: how its best candidates stand to its first reference."""
    chosen = best(of, gains(of).query("experiment == @name"))
    if chosen.empty:
        return f"{NO_ANSWER}: {_unanswered(of, name)}."
    reference = reference_label(chosen["over"].iloc[0])
    stand = _counted(chosen, reference, "differences of ")
    return f"The best of the others on validation rows is {stand}."


def span(rows: pd.DataFrame) -> str:
    """The least and the largest of differences."""
    ends = (number(value, signed=True) for value in (rows["gain"].min(), rows["gain"].max()))
    return stale_marked(" to ".join(dict.fromkeys(ends)), over_status(rows["status"]))


def candidate_cells(of: Frames, frame: pd.DataFrame) -> list[str]:
    """Arms, their backbones and what differs from their default settings, in words."""
    cells = []
    for name, backbone, arm, variant in frame[["experiment", *CANDIDATE]].itertuples(index=False):
        labels = of.study.params.experiments[name].labels | {DEFAULT_VARIANT: ""}
        cells.append(run_label(arm, backbone, labels.get(variant, variant)))
    return cells


def _first(of: Frames, name: str, frame: pd.DataFrame) -> str:
    """How the arms that are no reference stand to each reference."""
    references = of.study.params.experiments[name].references
    no_method = {over.partition("/")[0] for over in references}
    no_method |= {arm for arm in ARMS if not ARMS[arm].backbone}
    own = frame if frame["arm"].isin(no_method).all() else frame[~frame["arm"].isin(no_method)]
    if own.empty:
        return f"Experiment {name} has no answer: {_unanswered(of, name)}."
    methods = own[["arm", "variant"]].drop_duplicates()
    if len(methods) == 1:
        (who,) = candidate_cells(of, methods.assign(experiment=name, backbone=NO_BACKBONE))
        chosen = own
    else:
        who, chosen = "The best of the others on validation rows", _chosen(own)
    parts = [
        _counted(rows, reference_label(str(over)), "differences of " * (i == 0))
        for i, (over, rows) in enumerate(chosen.groupby("over", sort=False))
    ]
    most = int(own["gain_n"].max())
    seeds = "one seed each" if most == 1 else f"means over up to {most} seeds"
    metric = column(str(own["metric"].iloc[0])).head
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"{who} is {listed}: test {metric}, {seeds}."


def _others(of: Frames, names: tuple[str, ...], frame: pd.DataFrame) -> str:
    """How the best candidates of the other experiments stand to their first references."""
    if len(names) == 1:
        return "There is no other experiment in this tier."
    chosen = best(of, frame)
    if chosen.empty:
        return f"The other {len(names) - 1} experiments have no answer yet."
    known, counts = chosen[~chosen["verdict"].isin(UNTESTED)], Counter(chosen["verdict"])
    text = (
        f"In the {chosen['experiment'].nunique()} other experiments with an answer, the best on "
        f"validation rows of all but the reference is better than it in {_none(counts[BETTER])} of "
        f"{len(known)} comparisons over several seeds and worse in {_none(counts[WORSE])}"
    )
    better = known[known["verdict"] == BETTER]
    most = better.loc[_worth(better, "gain").groupby(better["metric"], sort=False).idxmax()]
    for who, row in zip(candidate_cells(of, most), most.to_dict("records"), strict=True):
        text += (
            f"; most in {column(row['metric']).head} on {row['dataset']}, {who}: "
            f"{stale_marked(number(row['gain'], signed=True), row['status'])} "
            f"(95 % interval {interval_cell(row['low'], row['high'], row['status'])})"
        )
    return f"{text}."


def currency(of: Frames) -> str:
    """How many numbers today's code would give again."""
    counts = status_counts(of.about["status"])
    total, made = sum(counts.values()), counts[CURRENT] + counts[STALE]
    missing = f"{total - made:,} of {total:,} runs have no numbers yet"
    if counts[ABSENT]:
        missing += f", {counts[ABSENT]:,} of them for want of data"
    if not made:
        return f"{missing}."
    stale = f"stale ({STALE_MARK}), made by {STALE_MEANS}"
    text = f"{counts[STALE]:,} of the {made:,} runs with numbers are {stale}"
    if counts[STALE] in (0, made):
        what = stale if counts[STALE] else CURRENT
        text = f"All {made:,} runs with numbers are {what}"
    return f"{text}; {missing}." if total > made else f"{text}."


def _chosen(frame: pd.DataFrame) -> pd.DataFrame:
    known = frame[frame["validation"].notna()].reset_index(drop=True)
    worth = _worth(known, "validation").groupby([known[key] for key in GROUP], sort=False)
    return known.loc[worth.idxmax()].reset_index(drop=True)


def _worth(frame: pd.DataFrame, value: str) -> "pd.Series[float]":
    """A value of each row's metric, with such a sign that higher is better."""
    lower = frame["metric"].map(lambda metric: column(metric).better == "lower").astype(bool)
    return frame[value].mask(lower, -frame[value])


def _counted(rows: pd.DataFrame, reference: str, differences: str = "") -> str:
    counts, n = Counter(rows["verdict"]), len(rows)
    rest = [f"{v} in {'all' if counts[v] == n else counts[v]}" for v in OUTCOMES[1:] if counts[v]]
    better = f"better than {reference} in {_none(counts[BETTER])} of {n} comparisons"
    if n == 1:
        said = rows["verdict"].iloc[0]
        if said in UNTESTED:
            how = {ONE_SEED: "on one seed", UNKNOWN: "without an interval"}[said]
            return f"held against {reference} {how} ({span(rows)})"
        between = {EQUIVALENT: "to", UNDECIDED: "against"}.get(said, "than")
        return f"{said} {between} {reference} ({span(rows)})"
    return f"{better} ({'; '.join([', '.join(rest)] * bool(rest) + [differences + span(rows)])})"


def _none(count: int) -> str:
    return number(count, 0) if count else "none"


def interval_cell(low: float, high: float, status: str) -> str:
    """An interval as text; a dash if it is not known."""
    if pd.isna(low):
        return MISSING
    return stale_marked(f"{number(low, signed=True)} to {number(high, signed=True)}", status)


def _unanswered(of: Frames, name: str) -> str:
    """Why an experiment has no answer."""
    metric = of.study.params.experiments[name].metric
    if column(metric).better is None:
        return f"`reporting.columns` does not say which values of {metric} are better"
    return "nothing to compare yet"
