"""Columns and captions that tables have in common."""

from collections.abc import Iterable

import pandas as pd

from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.collect import PRESENT, Results
from domain_experts.reporting.render import MISSING, mean_sd
from domain_experts.results import ABSENT
from domain_experts.study import Study

KEYS = ["dataset", "task", "backbone", "arm", "variant"]
STALE_MARK = "°"


def labels(frame: pd.DataFrame, marked: Iterable[str] = ()) -> pd.DataFrame:
    """The key columns as printed; task and variant only where there is more than one."""
    printed = pd.DataFrame({"Data set": frame["dataset"]})
    if "task" in frame and len({*frame["task"]} - {""}) > 1:
        printed["Task"] = frame["task"].replace("", MISSING)
    if "backbone" in frame:
        labels = {name: backbone.label for name, backbone in BACKBONES.items()}
        printed["Backbone"] = frame["backbone"].map(labels | {NO_BACKBONE: MISSING})
    if "arm" in frame:
        printed["Arm"] = [arm_label(arm, marked) for arm in frame["arm"]]
    if "variant" in frame and len({*frame["variant"]}) > 1:
        printed["Variant"] = frame["variant"]
    return printed


def arm_label(arm: str, marked: Iterable[str] = ()) -> str:
    """An arm's label, with a dagger if it is among the marked."""
    return ARMS[arm].label + ("†" if arm in marked else "")


def means(frame: pd.DataFrame, name: str, signed: bool = False) -> list[str]:
    """`mean ± sd` of a value that `over_seeds` has summed up."""
    pairs = zip(frame[f"{name}_mean"], frame[f"{name}_sd"], strict=True)
    return [mean_sd(mean, sd, signed=signed) for mean, sd in pairs]


def wauc(frame: pd.DataFrame) -> list[str]:
    """The WAUC column; it also says where there is no result, and why."""
    return or_status(frame, means(frame, "wauc"))


def or_status(frame: pd.DataFrame, cells: Iterable[str]) -> list[str]:
    """The cells, marked if they are stale, or why they are empty where there is no result."""
    known = zip(frame["status"], frame["stale"].eq(True), cells, strict=True)
    return [
        (f"{cell}{STALE_MARK}" if stale else cell) if status == PRESENT else status
        for status, stale, cell in known
    ]


def stale_text(study: Study, stale: int, runs: int) -> str:
    """What the mark of stale cells means; empty if there are none."""
    if not stale:
        return ""
    return (
        f" {STALE_MARK} {stale} of {runs} runs are stale: other code, settings, data or torch than "
        f"today's made them (`domain-experts status --tier {study.tier}` says which). Renew them "
        f"with `snakemake --config tier={study.tier}`."
    )


def one_row_if_absent(frame: pd.DataFrame, printed: pd.DataFrame) -> pd.DataFrame:
    """The printed rows of `frame`, all those of a data set that is not there as one."""
    absent = (frame["status"] == ABSENT).to_numpy()
    printed = printed.reset_index(drop=True)
    which = [name for name in ("Backbone", "Arm", "Variant") if name in printed]
    printed.loc[absent, which] = "all"
    shown: pd.DataFrame = printed[~(absent & frame.duplicated("dataset").to_numpy())]
    return shown


def caption(results: Results, runs: pd.DataFrame | None, text: str) -> str:
    """Say what is shown, of which tier and seeds, and how it was made."""
    tier = results.study.tier
    made = (
        f"Tier {tier}; made by `domain-experts tables --tier {tier}` from the runs' result files."
    )
    if runs is None:
        return f"{text} {made}"
    if runs.empty:
        return f"{text} No runs in this tier. {made}"
    seeds = ", ".join(str(seed) for seed in sorted(runs["seed"].unique()))
    present = runs[runs["status"] == PRESENT].drop_duplicates("run")
    stale = stale_text(results.study, int(present["stale"].sum()), len(present))
    return f"{text} Seeds {seeds}. {made}{stale}"


def left_out(results: Results) -> tuple[str, ...]:
    """Name the domains that have no AUC."""
    found = dict.fromkeys(
        f"{run.dataset}, {task}: no AUC, and no part in WAUC, for {', '.join(names)} "
        "(test rows of one class)."
        for run, metrics in results.metrics.items()
        for task in metrics["tasks"]
        if (names := metrics["test"][task]["left_out"])
    )
    return tuple(found)
