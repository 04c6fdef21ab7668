"""The main results: what every arm reaches on every data set and backbone."""

from collections.abc import Iterable

import pandas as pd

from domain_experts.registry import ARMS
from domain_experts.reporting.collect import PRESENT, Results
from domain_experts.reporting.columns import (
    KEYS,
    arm_label,
    caption,
    labels,
    left_out,
    means,
    one_row_if_absent,
    wauc,
)
from domain_experts.reporting.convergence import ending_notes
from domain_experts.reporting.published import KEYS as CELL
from domain_experts.reporting.published import TOLERANCE, published, verdict
from domain_experts.reporting.render import MISSING, Table, counts, number
from domain_experts.reporting.summary import over_seeds, paired_gain

EXPERIMENTS = ("main", "other_backbones", "released")
WAUC = "WAUC is the exact AUC of each domain, weighted by its test rows"


def overview(results: Results) -> Table:
    """Data set x backbone, one column an arm: WAUC. Floors have no backbone: they repeat."""
    runs = results.of(*EXPERIMENTS)
    frame = over_seeds(runs, KEYS, ["wauc"])
    arms = list(dict.fromkeys(frame["arm"]))
    floors = [arm for arm in arms if not ARMS[arm].backbone]
    row_keys = ["dataset", "task", "backbone", "variant"]
    rows = frame if len(floors) == len(arms) else frame[~frame["arm"].isin(floors)]
    rows = rows.drop_duplicates(row_keys).reset_index(drop=True)
    numbers, printed = rows[[*row_keys, "status"]].copy(), labels(rows.drop(columns="arm"))
    marked = _other_splits(results)
    for arm in arms:
        keys = [key for key in row_keys if arm not in floors or key != "backbone"]
        cells = frame.loc[frame["arm"] == arm, [*keys, "wauc_mean", "wauc_sd", "status", "stale"]]
        own = rows[keys].merge(cells, "left", keys)
        numbers[[f"{arm}_wauc_mean", f"{arm}_wauc_sd"]] = own[["wauc_mean", "wauc_sd"]]
        # an arm that no experiment has in this row is no hole
        printed[arm_label(arm, marked)] = wauc(own.fillna({"status": PRESENT}))
    text = caption(
        results,
        runs,
        f"Test WAUC of every arm, mean ± standard deviation over seeds. {WAUC}."
        + (" Arms without a backbone are floors." if floors else ""),
    )
    notes = (*_split_notes(marked, arms), *left_out(results))
    return Table("overview", text, numbers, one_row_if_absent(rows, printed), notes)


def main_table(results: Results) -> Table:
    """Data set x backbone x arm: WAUC, gains, parameters, published value."""
    runs = results.of(*EXPERIMENTS)
    for reference in ("base", "mlora"):
        gain = paired_gain(runs, runs[runs["arm"] == reference], ["variant"])
        runs[f"gain_over_{reference}"] = gain.mask(runs["arm"].isin(["base", reference]))
    values = ["wauc", "gain_over_base", "gain_over_mlora", "binned_wauc"]
    frame = over_seeds(runs, KEYS, values)
    rows = runs.groupby(KEYS, sort=False)
    frame["parameters"] = rows["parameters"].first().to_numpy()
    frame = frame.merge(published("wauc"), "left", CELL)
    frame["less_published"] = frame["wauc_mean"] - frame["published"]
    frame["verdict"] = [
        "" if pd.isna(less) else verdict(less, sd)
        for less, sd in zip(frame["less_published"], frame["wauc_sd"], strict=True)
    ]
    marked = _other_splits(results)
    printed = labels(frame, marked)
    printed["WAUC"] = wauc(frame)
    printed["Gain over base"] = means(frame, "gain_over_base", signed=True)
    printed["Gain over MLoRA"] = means(frame, "gain_over_mlora", signed=True)
    binned = frame["binned_wauc_mean"].notna().any()
    if binned:
        printed["500-bin WAUC"] = means(frame, "binned_wauc")
    printed["Seeds"] = counts(frame["seeds"])
    printed["Parameters"] = counts(frame["parameters"])
    printed["Published"] = [
        MISSING if pd.isna(value) else f"{number(value)} ({number(less, signed=True)}, {word})"
        for value, less, word in zip(
            frame["published"], frame["less_published"], frame["verdict"], strict=True
        )
    ]
    notes = _split_notes(marked, frame["arm"])
    if binned:
        notes.append("500-bin WAUC is the public code's own measure.")
    if frame["published"].notna().any():
        notes.append(
            "In brackets: this less the published value; met if within "
            f"max({TOLERANCE}, 2 standard deviations over seeds)."
        )
    text = caption(
        results,
        runs,
        "Main results: test WAUC and gains in WAUC, mean ± standard deviation over seeds; "
        f"{_seed_draws(results)}. {WAUC}. "
        "Gains are means of differences between runs of one seed on the same split. Published: "
        f"{MISSING} where unknown.",
    )
    notes += ending_notes(results, results.expected(*EXPERIMENTS))
    shown = one_row_if_absent(frame, printed)
    return Table("main", text, frame, shown, (*notes, *left_out(results)))


def headline_metrics(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    """Data set -> backbone -> arm -> mean test WAUC, for `dvc metrics show`."""
    summary: dict[str, dict[str, dict[str, float]]] = {}
    runs = results.of(*EXPERIMENTS)
    frame = runs.groupby(["dataset", "backbone", "arm"], as_index=False)["wauc"].mean()
    for row in frame.dropna().itertuples():
        by_arm = summary.setdefault(row.dataset, {}).setdefault(row.backbone, {})
        by_arm[row.arm] = round(row.wauc, 6)
    return summary


def _other_splits(results: Results) -> dict[str, int | None]:
    """Arms whose split is not that of Base: to the seed that fixes it, None if each seed does."""
    base = results.study.settings("base").protocol.split_seed
    fixed = {run.arm: run.settings.protocol.split_seed for run in results.expected(*EXPERIMENTS)}
    return {arm: seed for arm, seed in fixed.items() if seed != base}


def _split_notes(marked: dict[str, int | None], arms: Iterable[str]) -> list[str]:
    """What a dagger means."""
    return [
        f"† {ARMS[arm].label}: its split is "
        + ("drawn by each seed" if marked[arm] is None else f"fixed by seed {marked[arm]}")
        + ", so its test rows differ from those of Base, and it has no paired gains"
        + ("." if marked[arm] is None else "; its spread over seeds is that of training alone.")
        for arm in dict.fromkeys(arms)
        if arm in marked
    ]


def _seed_draws(results: Results) -> str:
    fixed = results.study.settings("base").protocol.split_seed
    if fixed is None:
        return "a seed draws split and training"
    return f"a seed draws training alone, for the split is fixed by seed {fixed}"
