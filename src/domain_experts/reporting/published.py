"""Published numbers: data beside the code, one number a line; unknown ones have no line.

Each names the data set, backbone, arm and variant of params.yaml whose runs it can be held against,
and so the rows it is about. A number of a data set or variant that params.yaml does not have is not
shown. `test_rows` says whether it was measured on the test rows that the data set has here: `same`,
`other` or `unknown`; empty for what is not measured on test rows.
"""

import csv
import math
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import pandas as pd

from domain_experts.errors import UserError
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.columns import column, stale_marked
from domain_experts.reporting.frame import KEYS
from domain_experts.reporting.render import MISSING, number
from domain_experts.reporting.statistics import BETTER, ONE_SEED, WORSE
from domain_experts.runs import DEFAULT_VARIANT
from domain_experts.settings import RunSettings
from domain_experts.suggest import unknown

CELL = ("dataset", "backbone", "arm", "variant", "domain", "task", "metric")
"""What tells two numbers apart."""
COLUMNS = ("source", *CELL, "value", "test_rows")
SAME, OTHER, NOT_KNOWN = "same", "other", "unknown"
TEST_ROWS = {SAME: "", OTHER: "other test rows", NOT_KNOWN: "test rows unknown"}
"""What a cell says of them."""
MET = "met"

_AUC = (lambda value: 0 <= value <= 1, "an AUC between 0 and 1")
_POSITIVE = (lambda value: 0 < value < math.inf, "a positive number")
_COUNTS = ("users", "items", "rows", "best_learning_rate", "best_shared_experts")
METRICS: dict[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys(("wauc", "macro_auc", "auc"), _AUC),
    "rela_impr": (lambda value: -1 < value < 1, "a share between -1 and 1"),
    **dict.fromkeys(("macro_log_loss", *_COUNTS), _POSITIVE),
}
_SETTINGS = sorted(
    {
        name.replace("_", "-")
        for part in RunSettings.model_json_schema()["$defs"].values()
        for name in part["properties"]
    }
)
"""As the names of variants have them."""


def tolerance_notes(margin: float) -> list[str]:
    """What the verdicts on published values mean."""
    return [
        "In brackets: the mean over seeds less the published value. Met: the published value lies "
        "within the mean's 95 % interval (of the test users and the spread over seeds; of other "
        "metrics than WAUC and mean AUC, and where it is not stored, Student's t over seeds), "
        "widened by half of its last printed digit, or the interval of the difference in AUC lies "
        f"within ±{margin:g}. Half, double: the verdict if all three were half or twice as wide, "
        "where it is another. One seed: no interval is known.",
        "Test rows unknown: which rows the published value was measured on cannot be told from "
        "the paper and its code, so that a part of the difference may be theirs.",
    ]


def published(metric: str, by_cell: bool = False, source: bool = False) -> pd.DataFrame:
    """Published values of one metric: dataset, task, backbone, arm, variant, `published_<metric>`.

    Where there are any, `published_<metric>_rounding` is half of the last digit that is printed,
    and `published_<metric>_rows` says whether the test rows are the same.

    Args:
        metric: one of METRICS; of another one there are none.
        by_cell: those of single domains, whose `number` counts from 1.
        source: say in `source` where each is published.

    Raises:
        UserError: a line does not fit; the message names file and line.
    """
    frame = _all()
    own = frame[(frame["metric"] == metric) & ((frame["domain"] != "") == by_cell)]
    names = {"value": "", "rounding": "_rounding", "test_rows": "_rows"}
    columns = {name: f"published_{metric}{end}" for name, end in names.items()}
    own = own.rename(columns=columns)
    if by_cell:
        own = own.assign(number=own["domain"].astype(int))
    about = [name for name in columns.values() if len(own) or name == f"published_{metric}"]
    return own[[*KEYS, *["number"] * by_cell, *["source"] * source, *about]]


def verdict(
    difference: float, half: float, rounding: float, margin: float, lower: bool = False
) -> str:
    """Whether a mean meets the published value, or is better or worse than that.

    Args:
        difference: the mean less the published value.
        half: half of the width of the mean's interval; NaN: not known.
        rounding: half of the published value's last digit.
        margin: differences within it do not matter; NaN: none is set.
        lower: lower values are better.
    """
    if math.isnan(half):
        return ONE_SEED
    reach = half + rounding
    if abs(difference) <= reach or abs(difference) + reach <= margin:
        return MET
    return f"{WORSE if (difference > 0) == lower else BETTER} than published"


def moved(
    difference: float, half: float, rounding: float, margin: float, lower: bool = False
) -> str:
    """The verdict and, where they are others, those at half and double the tolerance."""
    at = {
        name: verdict(difference, half * scale, rounding * scale, margin * scale, lower)
        for name, scale in (("", 1.0), ("half", 0.5), ("double", 2.0))
    }
    others = [f"{name}: {said}" for name, said in at.items() if said != at[""]]
    return "; ".join([at[""], *others])


def verdict_text(frame: pd.DataFrame, value: str, margin: float) -> list[str]:
    """Published values, how far the frame's means are from them, and the verdicts.

    Args:
        frame: has of the value its mean, `<value>_half` and what `published` gives.
        value: name of the metric.
        margin: differences within it do not matter; NaN: none is set.
    """
    known, lower = f"published_{value}", column(value).better == "lower"
    names = (known, value, f"{value}_half", f"{known}_rounding", f"{known}_rows", "status")
    texts = []
    for printed, mean, half, rounding, rows, status in zip(
        *(frame[name] for name in names), strict=True
    ):
        text = number(printed)
        if text != MISSING and not math.isnan(mean):
            less = mean - printed
            parts = [number(less, signed=True), moved(less, half, rounding, margin, lower)]
            text += f" ({', '.join(filter(None, [*parts, TEST_ROWS[rows]]))})"
            text = stale_marked(text, status)
        texts.append(text)
    return texts


@cache
def _all() -> pd.DataFrame:
    rows: dict[tuple[str, ...], tuple[float, float, str, str]] = {}
    for file in sorted(files("domain_experts.reporting").joinpath("published").iterdir(), key=str):
        if not file.name.endswith(".csv"):
            continue
        reader = csv.DictReader(file.read_text(encoding="utf-8").splitlines(), strict=True)
        for row in reader:
            where = f"published/{file.name}, line {reader.line_num}"
            value = _value(row, where)
            key = tuple(row[name] for name in CELL)
            if key in rows:
                raise UserError(f"{where}: this cell has a value already; keep one of the lines")
            digits = len(row["value"].partition(".")[2])
            rows[key] = value, 0.5 * 10**-digits, row["test_rows"], row["source"]
    frame = pd.DataFrame([*rows], columns=list(CELL), dtype="str")
    values = pd.DataFrame([*rows.values()], columns=["value", "rounding", "test_rows", "source"])
    return frame.join(values)


def _value(row: dict[str, str], where: str) -> float:
    if tuple(row) != COLUMNS or None in row.values():
        raise UserError(f"{where}: expected the columns {', '.join(COLUMNS)}")
    names = {"metric": [*METRICS], "backbone": ["", *BACKBONES], "arm": ["", *ARMS]}
    for name, known in names.items():
        if row[name] not in known:
            raise UserError(f"{where}: {unknown(name, row[name], filter(None, known))}")
    for part in row["variant"].split(",") if row["variant"] not in ("", DEFAULT_VARIANT) else ():
        if (key := part.partition("=")[0]) not in _SETTINGS:
            raise UserError(f"{where}: {unknown('setting', key, _SETTINGS, 'see params.yaml')}")
    if row["domain"] and not (row["domain"].isdecimal() and int(row["domain"]) > 0):
        raise UserError(f"{where}: domain '{row['domain']}' is not a number from 1")
    try:
        value = float(row["value"])
    except ValueError:
        raise UserError(f"{where}: value '{row['value']}' is not a number") from None
    fits, what = METRICS[row["metric"]]
    if not fits(value):
        raise UserError(f"{where}: value {value} is not {what}")
    measured = row["metric"] not in _COUNTS
    if row["test_rows"] not in (TEST_ROWS if measured else ("",)):
        allowed = f"one of {', '.join(TEST_ROWS)}" if measured else "empty for this metric"
        raise UserError(f"{where}: test_rows is '{row['test_rows']}', and must be {allowed}")
    return value
