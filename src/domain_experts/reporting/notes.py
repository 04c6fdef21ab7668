"""What must be said below a table or picture: what is stale, undefined, capped or elsewhere."""

import pandas as pd

from domain_experts.registry import ARMS, BEST_FLOOR
from domain_experts.reporting.catalog import renews
from domain_experts.reporting.columns import OTHER_SPLIT, STALE_MARK, STALE_MEANS, stale_marked
from domain_experts.reporting.frame import KEYS, Frames, made, over_status, status_counts
from domain_experts.results import ABSENT, NOT_RUN, STALE
from domain_experts.settings import Protocol


def seeds_text(runs: pd.DataFrame, spread: str = "") -> str:
    """Which seeds are shown, and what one of them alone means; `spread`: how several are shown."""
    there = made(runs)
    if there.empty:
        return "No run has numbers yet."
    seeds = ", ".join(map(str, sorted(there["seed"].unique())))
    counts = {*there.groupby(["dataset", "backbone", "arm", "variant"])["seed"].nunique()}
    if counts == {1}:
        return f"One seed each ({seeds}): no spread over seeds is known."
    some = " where there are several" * (1 in counts)
    return f"Seeds {seeds}{f'; {spread}{some}' * bool(spread)}."


def status_notes(frames: Frames, runs: pd.DataFrame) -> list[str]:
    """How many of the runs shown are stale or missing, and how to renew them."""
    return [*stale_notes(frames, runs), *missing_notes(runs)]


def stale_notes(frames: Frames, runs: pd.DataFrame) -> list[str]:
    """How many of the runs shown are stale, and how to renew them."""
    count, tier = status_counts(runs["status"])[STALE], frames.study.tier
    return [
        f"{STALE_MARK} stale: {count:,} of {len(runs):,} runs were made by {STALE_MEANS}. "
        f"`{renews(frames.study)}` renews them; `domain-experts status --tier {tier}` says "
        "why."
    ] * bool(count)


def missing_notes(runs: pd.DataFrame) -> list[str]:
    """How many of the runs shown have no numbers, and why."""
    counts, notes = status_counts(runs["status"]), []
    if counts[NOT_RUN]:
        notes.append(f"{counts[NOT_RUN]:,} of {len(runs):,} runs are not run yet.")
    if counts[ABSENT]:
        names = ", ".join(dict.fromkeys(runs.loc[runs["status"] == ABSENT, "dataset"]))
        notes.append(f"Data not present: {names}.")
    return notes


def split_notes(runs: pd.DataFrame, frame: pd.DataFrame) -> tuple["pd.Series[bool]", list[str]]:
    """Which rows of a table rest on other test rows than the others, and a note that says so.

    Args:
        runs: the runs of the table.
        frame: its rows, by KEYS.

    Returns:
        A flag a row: its split is fixed apart from the run's seed, where that of others is not.
    """
    own = runs[runs["split_seed"] != runs["seed"]].groupby(KEYS)["split_seed"].first()
    seeds = frame.join(own.rename("seed"), KEYS)["seed"]
    apart = seeds.notna()
    if apart.all() or not apart.any():
        return apart & False, []
    fixed = ", ".join(f"{seed:.0f}" for seed in sorted(seeds[apart].unique()))
    return apart, [
        f"{OTHER_SPLIT} its split is fixed by a seed of its own ({fixed}), so that its test rows "
        "are others: it is neither compared nor ranked with the rest."
    ]


def floor_notes(frame: pd.DataFrame) -> list[str]:
    """Which floor is the best on which data.

    Args:
        frame: differences with the columns dataset, over and reference (`arm/backbone`).
    """
    own = frame.loc[frame["over"] == BEST_FLOOR, ["dataset", "reference"]].drop_duplicates()
    if own.empty:
        return []
    arms = own["reference"].str.partition("/")[0]
    parts = [
        f"{ARMS[arm].label} on {', '.join(datasets.unique())}"
        for arm, datasets in own["dataset"].groupby(arms, sort=False)
    ]
    return [f"The best floor, by the mean over seeds on validation rows: {'; '.join(parts)}."]


def switch_notes(frames: Frames, runs: pd.DataFrame) -> list[str]:
    """What those switches of a protocol mean that variants of the runs set."""
    variants = (dict(frames.results.expected[path].variant) for path in runs["run"])
    keys = dict.fromkeys(key for variant in variants for key in variant)
    fields = {f"protocol.{name}": field for name, field in Protocol.model_fields.items()}
    return [
        f"{key.removeprefix('protocol.').replace('_', '-')}: {fields[key].description}."
        for key in keys
        if key in fields and fields[key].description
    ]


def run_notes(frames: Frames, runs: pd.DataFrame) -> list[str]:
    """All that must be said below a table of runs."""
    return [
        note
        for notes in (status_notes, undefined_notes, ending_notes)
        for note in notes(frames, runs)
    ]


def undefined_notes(frames: Frames, runs: pd.DataFrame) -> list[str]:
    """Domains that have no AUC."""
    domains = frames.domains[frames.domains["run"].isin(runs["run"])]
    lost = domains[domains["auc"].isna()].drop_duplicates(["dataset", "task", "domain"])
    return [
        f"{own['dataset'].iloc[0]}, {own['task'].iloc[0]}: no AUC, and no part in WAUC, for "
        f"{', '.join(own['domain'])} (test rows of one class, or none)."
        for _, own in lost.groupby(["dataset", "task"], sort=False)
    ]


def ending_notes(frames: Frames, runs: pd.DataFrame) -> list[str]:
    """What kept its starting weights, what ended at the cap on epochs, what was not trained."""
    lanes = frames.lanes[frames.lanes["run"].isin(runs["run"])]
    lanes = lanes[lanes["used"].eq(True)]
    texts = {
        "Kept their starting weights (best epoch 0): {}. An expert adds nothing at its start.": (
            lanes["part"].isin(["experts", "gate"])
            & lanes["trained"].eq(True)
            & lanes["moved"].eq(False)
        ),
        "Ended by the cap on epochs, with patience left: {}.": lanes["capped"].eq(True),
        "Not trained, for want of rows or of both classes: {}.": lanes["trained"].eq(False),
    }
    keys = ["dataset", "arm", "part"]
    totals = lanes.groupby(keys, sort=False).size()
    status = lanes.groupby(keys)["status"].agg(over_status)
    notes = []
    for text, chosen in texts.items():
        found = lanes[chosen].groupby(keys, sort=False).size()
        parts = [
            f"{dataset}, {ARMS[arm].label}: "
            f"{stale_marked(f'{count:,}', status.loc[dataset, arm, part])} of "
            f"{totals.loc[dataset, arm, part]:,} {part}"
            for dataset, arm, part, count in found.reset_index().itertuples(index=False)
        ]
        if parts:
            notes.append(text.format("; ".join(parts)))
    return notes
