"""What is said of a study of one log: the recommendation in words, its tables, the terminal."""

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from rich.console import Console

from domain_experts import layout
from domain_experts.plain_text import visible
from domain_experts.registry import ARMS, BEST_FLOOR, REFERENCE
from domain_experts.reporting.answer import candidate_cells, currency, interval_cell
from domain_experts.reporting.columns import COLUMNS, column, stale_marked
from domain_experts.reporting.differences import differences
from domain_experts.reporting.frame import Frames, frames
from domain_experts.reporting.notes import status_notes
from domain_experts.reporting.recommend import (
    CANDIDATE,
    MOST_SEEDS,
    Choice,
    Row,
    asked,
    by_domain,
    choice,
    costs,
    needed,
)
from domain_experts.reporting.render import Shown, Table, number, terminal
from domain_experts.reporting.statistics import (
    BETTER,
    EQUIVALENT,
    ONE_SEED,
    OUTCOMES,
    UNDECIDED,
    UNKNOWN,
    WORSE,
    interval_notes,
    margin_of,
)
from domain_experts.study import Study

_NAMED = 3
"""Domains that a sentence names of those with one verdict."""


def sentences(of: Frames) -> list[str]:
    """The recommendation, why, by domain, at what cost, and what it would take to be sure."""
    found = choice(of)
    if found is None:
        return [f"There is no answer yet: no run has numbers. {currency(of)}"]
    return [
        recommendation(of, found),
        _standing(of, found),
        *_by_domain_in_short(of, found),
        *_cost_in_short(of, found),
        *_sureness(of, found),
        currency(of),
    ]


def recommendation(of: Frames, found: Choice) -> str:
    """What to take, in one sentence."""
    name, row = found.label, found.blocked
    if ARMS[found.best["arm"]].floor:
        why = "no other arm that was tried is better on validation rows"
        return f"Take {name}, a floor: domain experts do not pay, as {why}."
    if row is None:
        gains = [f"{_gain(one)} over {one['label']}" for one in found.against.to_dict("records")]
        nothing = "it is best on validation rows, and nothing simpler was tried"
        return f"Take {name}: {f'it gains {_listed(gains)}' if gains else nothing}."
    margin = margin_of(of.study.params, row["metric"])
    found_so = {
        EQUIVALENT: f"is equivalent to it within ±{margin:g} on test rows",
        WORSE: "is worse than it on test rows",
        UNDECIDED: "is not clearly better or worse than it on test rows",
        ONE_SEED: "was run with one seed, which does not tell how runs differ",
        UNKNOWN: "differs from it by what no interval is known of",
    }
    decided = row["verdict"] in (EQUIVALENT, WORSE)
    start = "No gain: take" if decided else "No gain is shown: stay with"
    why = found_so[row["verdict"]]
    return f"{start} {row['label']}. {name}, best on validation rows, {why}: {_gain(row)}."


def gains_table(of: Frames) -> Table:
    """The best arm less each simpler one, on test rows."""
    found = choice(of)
    frame = differences(of).iloc[:0].assign(label="") if found is None else found.against
    metric = asked(of)[2]
    named = pd.DataFrame({"Against": frame["label"], "Verdict": frame["verdict"]})
    columns = [
        Shown("Difference", COLUMNS["gain"].cells(frame, "gain")),
        Shown("95 % interval", [*map(interval_cell, frame["low"], frame["high"], frame["status"])]),
        Shown("Seeds", [number(n, 0) for n in frame["seeds"]]),
    ]
    best = "the best arm" if found is None else found.label
    caption = (
        f"Gain of {best}, best on validation rows, over what it is to beat, in "
        f"test {column(metric).head}. Tier {of.study.tier}."
    )
    notes = [*interval_notes(frame["low"], frame["error"]), *status_notes(of, of.about)]
    return Table.of("recommendation", caption, frame, named, columns, notes)


def domains_table(of: Frames) -> Table:
    """The best arm less Base, or less the best floor if it is Base, in each domain."""
    frame, label = by_domain(of)
    sizes = of.data[["dataset", "domain", "train", "test"]]
    frame = frame.merge(sizes[sizes["dataset"] == asked(of)[1]], "left", "domain")
    named = pd.DataFrame({"Domain": frame["domain"]})
    if len({*frame["task"]}) > 1:
        named["Task"] = frame["task"]
    named["Verdict"] = frame["verdict"]
    columns = [
        Shown("Train", _means(frame, "train", 0)),
        Shown("Test", _means(frame, "test", 0)),
        Shown("Difference", COLUMNS["gain"].cells(frame, "gain")),
        Shown("95 % interval", [*map(interval_cell, frame["low"], frame["high"], frame["status"])]),
    ]
    best = found.label if (found := choice(of)) else "the best arm"
    caption = (
        f"Test AUC of {best} less that of {label}, domain by domain, with the rows that train and "
        f"test. Tier {of.study.tier}."
        if label
        else f"Nothing to compare domain by domain. Tier {of.study.tier}."
    )
    notes = [
        "Each domain is judged by itself: of many, one in twenty is called better or worse by "
        "chance alone."
    ] * bool(len(frame))
    if frame["low"].isna().any():
        notes.append("No interval: one seed, or what is compared is a floor.")
    return Table.of("recommendation_domains", caption, frame, named, columns, notes)


def costs_table(of: Frames) -> Table:
    """What each arm reaches and costs, the best on validation rows first."""
    frame = costs(of)
    metric = asked(of)[2]
    arms = candidate_cells(of, frame.assign(experiment=asked(of)[0]))
    named = pd.DataFrame({"Arm": pd.Series(arms, frame.index, dtype="str")})
    columns = [
        Shown(head, _means(frame, name, digits))
        for head, name, digits in (
            (f"Validation {column(metric).head}", "validation", 4),
            (f"Test {column(metric).head}", metric, 4),
            ("Seconds", "wall_s", 1),
            ("MB", "peak_memory_mb", 0),
            ("Parameters", "parameters", 0),
        )
    ]
    notes = [
        *(f"Measured on: {machine}." for machine in sorted(set(of.runs["machine"].dropna()))),
        "Seconds of a run are those of training it and all that it starts from; of a searched arm "
        "those of its last run, without the trials. Memory is the process's maximum so far.",
    ]
    caption = (
        "What each arm reaches and a run of it costs, the best on validation rows first; means "
        f"over seeds. Tier {of.study.tier}."
    )
    return Table.of("recommendation_cost", caption, frame, named, columns, notes)


TABLES = {
    "recommendation": gains_table,
    "recommendation_domains": domains_table,
    "recommendation_cost": costs_table,
}


def print_recommendation(study: Study, folder: Path) -> None:
    """Print the recommendation with its tables, and where the rest is.

    Args:
        study: of the working directory.
        folder: that directory, as the reader knows it.

    Raises:
        UserError: the results are missing or cannot be used.
    """
    of, console = frames(study), Console(highlight=False)
    first, *rest = sentences(of)
    console.print(visible(first), style="bold", markup=False)
    for sentence in rest:
        console.print(visible(sentence), markup=False)
    for make in TABLES.values():
        if len((made := make(of)).printed):
            console.print(terminal(made))
    for what, path in (
        ("Report", layout.report(study.tier)),
        ("Tables", layout.tables(study.tier)),
    ):
        if path.exists():
            console.print(f"{what + ':':<8} {folder / path}", soft_wrap=True)


def _standing(of: Frames, found: Choice) -> str:
    metric = asked(of)[2]
    head, best = column(metric).head, found.best
    text = (
        f"Of {found.candidates} arms and settings {found.label} is best on validation rows "
        f"({head} {number(best['validation'])}; on test rows {number(best[metric])})"
    )
    for row in found.against.to_dict("records"):
        between = {EQUIVALENT: "to", BETTER: "than", WORSE: "than"}.get(row["verdict"], "against")
        what = "the best floor, " * (row["over"] == BEST_FLOOR)
        text += f"; {row['verdict']} {between} {what}{row['label']} by {_gain(row)}"
    return f"{text}."


def _by_domain_in_short(of: Frames, found: Choice) -> Iterator[str]:
    frame, label = by_domain(of)
    if frame.empty:
        return
    counts = Counter(frame["verdict"])
    several = len({*frame["task"]}) > 1
    cells = frame["domain"] + (", " + frame["task"] if several else "")
    gains = [
        stale_marked(number(g, signed=True), s)
        for g, s in zip(frame["gain"], frame["status"], strict=True)
    ]
    by_size = frame.assign(said=cells + " " + gains).sort_values("gain", kind="stable")
    # of an undecided difference the size says nothing: the fewer rows, the larger
    names = {
        word: own.loc[own["verdict"] == word, "said"].tolist()
        for word, own in ((BETTER, by_size[::-1]), (WORSE, by_size))
    }
    said = [
        f"{word} in {counts[word]}{_most(names.get(word, []))}" for word in OUTCOMES if counts[word]
    ]
    what = "domains and tasks" if several else "domains"
    yield (
        f"Against {label}, {found.label} is, of {len(frame)} {what}, {', '.join(said)}. Of twenty, "
        "one is called better or worse by chance alone."
    )


def _most(named: list[str]) -> str:
    most = "most: " if len(named) > _NAMED else ""
    return f" ({most}{'; '.join(named[:_NAMED])})" if named else ""


def _cost_in_short(of: Frames, found: Choice) -> Iterator[str]:
    frame = costs(of)
    own = frame
    for key in CANDIDATE:
        own = own[own[key] == found.best[key]]
    row = own.iloc[0]
    text = (
        f"A run of {found.label} takes {number(row['wall_s'], 1)} s with all that it starts from, "
        f"{number(row['peak_memory_mb'], 0)} MB and {number(row['parameters'], 0)} parameters"
    )
    base = frame[(frame["arm"] == REFERENCE) & (frame["variant"] == row["variant"])]
    same = base[base["backbone"] == row["backbone"]]
    base = same if len(same) else base
    if row["arm"] != REFERENCE and len(base) and base.iloc[0]["wall_s"] > 0:
        text += f", {number(row['wall_s'] / base.iloc[0]['wall_s'], 1)} times the time of Base"
    yield f"{text}."


def _sureness(of: Frames, found: Choice) -> Iterator[str]:
    """What it would take to be sure, of the difference that decides."""
    row = found.blocked
    if row is None or row["verdict"] in (EQUIVALENT, WORSE):
        if len(found.against) and not ARMS[found.best["arm"]].floor:
            yield "The intervals decide: neither more rows nor more seeds are needed."
        return
    if row["seeds"] < 2:
        yield (
            "To be sure: two or more seeds, better five (`seeds: 5`): one does not tell how runs "
            "differ."
        )
        return
    margin = margin_of(of.study.params, row["metric"])
    error = float(row["se"] if pd.isna(row["user_se"]) else row["user_se"])
    found_needed = needed(row["gain"], row["gain_sd"], int(row["seeds"]), error, margin)
    within = f" or lies within ±{margin:g}" if not math.isnan(margin) else ""
    start = (
        f"To be sure, with an interval of the difference to {row['label']} that excludes "
        f"0{within}, if it stays as it is: "
    )
    if found_needed.seeds is not None:
        yield f"{start}{found_needed.seeds} seeds instead of {row['seeds']:.0f}, on the same rows."
    elif found_needed.rows is not None:
        test = of.data.loc[of.data["dataset"] == row["dataset"], "test"].sum()
        yield (
            f"{start}more seeds alone will not do, as they share their test rows; about "
            f"{number(found_needed.rows, 1)} times as many test rows and users (now "
            f"{number(test, 0)} rows) with {found_needed.seeds_with_rows} seeds would."
        )
    else:
        yield f"{start}more than {MOST_SEEDS} seeds, as runs differ too much from seed to seed."


def _means(frame: pd.DataFrame, name: str, digits: int) -> list[str]:
    pairs = zip(frame[name], frame["status"], strict=True)
    return [stale_marked(number(value, digits), status) for value, status in pairs]


def _gain(row: Row) -> str:
    return (
        f"{stale_marked(number(row['gain'], signed=True), str(row['status']))} (95 % interval "
        f"{interval_cell(row['low'], row['high'], str(row['status']))})"
    )


def _listed(parts: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
