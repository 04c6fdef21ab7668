"""Columns of tables: how a number of the runs' frame is headed and printed.

A metric or fact that is not named here can be shown all the same, under its own name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.reporting.frame import ALL_TASKS
from domain_experts.reporting.render import BEST, MISSING, SECOND, mean_sd
from domain_experts.results import ABSENT, NOT_RUN, STALE
from domain_experts.runs import DEFAULT_VARIANT

STALE_MARK, SIGNIFICANT, OTHER_SPLIT = "°", "*", "†"
NO_NUMBERS = (NOT_RUN, ABSENT)


@dataclass(frozen=True)
class Column:
    """A value of runs, printed as its mean over seeds with their standard deviation."""

    head: str
    digits: int = 4
    spread: bool = True
    """Print the standard deviation."""
    better: Literal["higher", "lower"] | None = None
    """Which values are the best."""
    unit: Literal["", "%"] = ""

    def cells(self, frame: pd.DataFrame, name: str) -> list[str]:
        """The value `name` of a frame of `over_seeds` as text."""
        scale = 100 if self.unit else 1
        spread = frame[f"{name}_sd"] if self.spread else [float("nan")] * len(frame)
        texts = [
            mean_sd(mean * scale, sd * scale, self.digits)
            for mean, sd in zip(frame[name], spread, strict=True)
        ]
        return [text if text == MISSING or not self.unit else f"{text} %" for text in texts]


def _count(head: str) -> Column:
    return Column(head, digits=0, spread=False)


COLUMNS = {
    "wauc": Column("WAUC", better="higher"),
    "macro_auc": Column("Mean AUC", better="higher"),
    "auc": Column("AUC", better="higher"),
    "binned_wauc": Column("500-bin WAUC"),
    "log_loss": Column("Log loss", better="lower"),
    "macro_log_loss": Column("Mean log loss", better="lower"),
    "calibration": Column("Calibration", 3),
    "bayes_wauc": Column("Best possible"),
    "new_domain_auc": Column("AUC on the new domain", better="higher"),
    "new_domain_rows": _count("Its training rows"),
    "gate_own_group": Column("Gate on own group", 3),
    "gate_own_group_chance": Column("Own group by chance", 3, spread=False),
    "gate_own_expert": Column("Gate on own expert", 3),
    "gate_own_expert_chance": Column("Own expert by chance", 3, spread=False),
    "gate_on_moved": Column("Gate on experts that moved", 3),
    "seen_users": Column("Test users seen in training", 0, spread=False, unit="%"),
    "epochs_trained": Column("Epochs trained", 1, spread=False),
    "parameters": _count("Parameters"),
    "domains": _count("Domains"),
    "rows": _count("Rows"),
    "train": _count("Training rows"),
    "validation": _count("Validation rows"),
    "test": _count("Test rows"),
    "smallest": _count("Smallest domain"),
    "largest": _count("Largest domain"),
    "users": _count("Users"),
    "items": _count("Items"),
    "positive_rate": Column("Positive rate", 3, spread=False),
    "wall_s": Column("Seconds per run", 1),
    "train_rows_per_s": _count("Training rows/s"),
    "epochs": Column("Epochs", 1, spread=False),
    "peak_memory_mb": _count("Peak memory, MB"),
    "a_D": Column("α domain", 3),
    "a_T": Column("α task", 3),
    "b_D": Column("β domain", 3),
    "b_T": Column("β task", 3),
}


def column(name: str) -> Column:
    """The column of a value."""
    return COLUMNS.get(name, Column(name))


def labelled(
    frame: pd.DataFrame, variants: dict[str, str], apart: Sequence[bool] | None = None
) -> pd.DataFrame:
    """The key columns as printed: task, backbone and variant only where there are several.

    Args:
        frame: a row a row of the table.
        variants: variants in words.
        apart: rows whose test rows are others than those of the rest, which get a mark.
    """
    printed = pd.DataFrame({"Data set": frame["dataset"]})
    if len({*frame["task"]} - {"", ALL_TASKS}) > 1:
        printed["Task"] = frame["task"].replace("", MISSING)
    if {*frame["backbone"]} - {NO_BACKBONE}:
        printed["Backbone"] = [backbone_label(name) for name in frame["backbone"]]
    marks = apart or [False] * len(frame)
    printed["Arm"] = [
        ARMS[arm].label + OTHER_SPLIT * mark for arm, mark in zip(frame["arm"], marks, strict=True)
    ]
    if {*frame["variant"]} - {DEFAULT_VARIANT}:
        printed["Variant"] = [variants.get(name, name) for name in frame["variant"]]
    absent = frame["status"] == ABSENT
    printed.loc[absent, [name for name in printed if name != "Data set"]] = "all"
    return printed


def backbone_label(name: str) -> str:
    """A backbone as printed."""
    return MISSING if name == NO_BACKBONE else BACKBONES[name].label


def with_status(frame: pd.DataFrame, cells: list[str]) -> list[str]:
    """The cells with their status: stale ones marked, missing ones with the reason."""
    return [
        status
        if status in NO_NUMBERS
        else cell + STALE_MARK * (status == STALE and cell != MISSING)
        for status, cell in zip(frame["status"], cells, strict=True)
    ]


def marked(frame: pd.DataFrame, cells: list[str]) -> list[str]:
    """The cells, those of stale runs marked."""
    pairs = zip(frame["status"], cells, strict=True)
    return [cell + STALE_MARK * (status == STALE and cell != MISSING) for status, cell in pairs]


def gain_cells(frame: pd.DataFrame, over: str) -> list[str]:
    """Mean differences to a reference, with a star where their interval excludes 0."""
    parts = (frame[f"{part} {over}"] for part in ("gain", "sd", "low", "high", "status"))
    return [
        mean_sd(mean, sd, signed=True)
        # a star on what prints as zero would say too much
        + SIGNIFICANT * ((low > 0 or high < 0) and round(mean, 4) != 0)
        + STALE_MARK * (status == STALE)
        for mean, sd, low, high, status in zip(*parts, strict=True)
    ]


def over_label(over: str, metric: str) -> str:
    """Heading of the differences to a reference."""
    arm, _, backbone = over.partition("/")
    if over == DEFAULT_VARIANT:
        return "Less the default"
    name = f"{ARMS[arm].label}, {BACKBONES[backbone].label}" if backbone else ARMS[arm].label
    return f"Less {name}" if metric != "wauc" else f"Gain over {name}"


def ranked(frame: pd.DataFrame, name: str, within: list[str]) -> list[str]:
    """BEST and SECOND of a value among the rows that share `within`; no rank among fewer than 3."""
    better = column(name).better
    if better is None:
        return [""] * len(frame)
    values = frame[name].round(column(name).digits)
    groups = values.groupby([frame[key] for key in within])
    place = groups.rank(method="dense", ascending=better == "lower")
    several = groups.transform("count") > 2
    words = {1.0: BEST, 2.0: SECOND}
    return [words.get(p, "") if s else "" for p, s in zip(place, several, strict=True)]
