"""How things are named and numbers printed, wherever they stand: heads, arms, references, stars.

A metric or fact that is not named here can be shown all the same, under its own name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from domain_experts.registry import ARMS, BACKBONES, BEST_FLOOR, NO_BACKBONE
from domain_experts.reporting.render import BEST, MISSING, SECOND, Shown, mean_sd
from domain_experts.results import ABSENT, CURRENT, NOT_RUN, STALE
from domain_experts.runs import DEFAULT_VARIANT

STALE_MARK, SIGNIFICANT, OTHER_SPLIT = "°", "*", "†"
STALE_MEANS = "other code, settings, data, torch, numpy or upstream runs than today's"
"""What makes a number stale."""
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
    signed: bool = False

    def cells(self, frame: pd.DataFrame, name: str) -> list[str]:
        """The value `name` of a frame as text, stale ones marked."""
        scale = 100 if self.unit else 1
        spread = frame[f"{name}_sd"] if self.spread else [float("nan")] * len(frame)
        status = frame.get("status", [CURRENT] * len(frame))
        return [
            stale_marked(
                mean_sd(mean * scale, sd * scale, self.digits, self.signed, self.unit), found
            )
            for mean, sd, found in zip(frame[name], spread, status, strict=True)
        ]

    def shown(self, frame: pd.DataFrame, name: str) -> Shown:
        """The value `name` of a frame as a column of a table."""
        return Shown(self.head, self.cells(frame, name))

    def ranks(self, values: "pd.Series[float]", within: pd.DataFrame) -> list[str]:
        """BEST and SECOND among the rows that share `within`; no rank among fewer than 3."""
        if self.better is None:
            return [""] * len(values)
        groups = values.round(self.digits).groupby([within[name] for name in within])
        place = groups.rank(method="dense", ascending=self.better == "lower")
        words = place.map({1.0: BEST, 2.0: SECOND})
        return list(words.where(groups.transform("count") > 2).fillna(""))


def _count(head: str) -> Column:
    return Column(head, digits=0, spread=False)


COLUMNS = {
    "wauc": Column("WAUC", better="higher"),
    "macro_auc": Column("Mean AUC", better="higher"),
    "auc": Column("AUC", better="higher"),
    "gain": Column("Difference", signed=True, spread=False),
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


def words(frame: pd.DataFrame, variants: Mapping[str, str]) -> pd.DataFrame:
    """Of arms, backbones (empty where there is none) and variants those that it has, as printed."""
    labels = {
        "arm": lambda arm: ARMS[arm].label,
        "backbone": backbone_label,
        "variant": lambda variant: variants.get(variant, variant),
    }
    known = {name: frame[name].map(label) for name, label in labels.items() if name in frame}
    return pd.DataFrame(known, dtype="str")


def backbone_label(name: str) -> str:
    """A backbone as printed; nothing for none."""
    return "" if name == NO_BACKBONE else BACKBONES[name].label


def run_label(arm: str, backbone: str = NO_BACKBONE, variant: str = "") -> str:
    """A run in words; `variant` is in words already."""
    return ", ".join(filter(None, (ARMS[arm].label, backbone_label(backbone), variant)))


def reference_label(over: str) -> str:
    """A reference, as params.yaml names it, in words: an arm, arm/backbone, default, best floor."""
    if over == BEST_FLOOR:
        return "the best floor"
    arm, _, backbone = over.partition("/")
    return "the default" if over == DEFAULT_VARIANT else run_label(arm, backbone or NO_BACKBONE)


def stale_marked(text: str, status: str) -> str:
    """A number as text, with the mark if it is stale."""
    return text + STALE_MARK * (status == STALE and text != MISSING)


def with_status(frame: pd.DataFrame, cells: Iterable[str]) -> list[str]:
    """The cells; where there are no numbers, why."""
    pairs = zip(frame["status"], cells, strict=True)
    return [status if status in NO_NUMBERS else cell for status, cell in pairs]


def gain_cells(frame: pd.DataFrame, over: str) -> list[str]:
    """Mean differences to a reference, with a star where their interval excludes 0."""
    parts = (frame[f"{part} {over}"] for part in ("gain", "sd", "low", "high", "status"))
    return [
        stale_marked(
            mean_sd(mean, sd, signed=True)
            # a star on what prints as zero would say too much
            + SIGNIFICANT * ((low > 0 or high < 0) and round(mean, 4) != 0),
            status,
        )
        for mean, sd, low, high, status in zip(*parts, strict=True)
    ]
