"""Published numbers: data beside the code, one number a line; unknown ones have no line.

Each names the data set, backbone, arm and variant of params.yaml whose runs it can be held against,
and so the rows it is about. A number of a data set or variant that params.yaml does not have is not
shown.
"""

import csv
import math
from collections.abc import Callable
from functools import cache
from importlib.resources import files

import pandas as pd

from domain_experts.errors import UserError
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.columns import stale_marked
from domain_experts.reporting.frame import KEYS
from domain_experts.reporting.render import MISSING, number
from domain_experts.runs import DEFAULT_VARIANT
from domain_experts.settings import RunSettings
from domain_experts.suggest import unknown

CELL = ("dataset", "backbone", "arm", "variant", "domain", "task", "metric")
"""What tells two numbers apart."""
COLUMNS = ("source", *CELL, "value")
TOLERANCE = 0.002
NUMBERS = (
    f"In brackets: this less the published value; met if within max({TOLERANCE}, 2 standard "
    "deviations over seeds)"
)

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


def published(metric: str, by_cell: bool = False, source: bool = False) -> pd.DataFrame:
    """Published values of one metric: dataset, task, backbone, arm, variant, `published_<metric>`.

    Args:
        metric: one of METRICS; of another one there are none.
        by_cell: those of single domains, whose `number` counts from 1.
        source: say in `source` where each is published.

    Raises:
        UserError: a line does not fit; the message names file and line.
    """
    frame = _all()
    own = frame[(frame["metric"] == metric) & ((frame["domain"] != "") == by_cell)]
    own = own.rename(columns={"value": f"published_{metric}"})
    if by_cell:
        own = own.assign(number=own["domain"].astype(int))
    also = [*["number"] * by_cell, *["source"] * source]
    return own[[*KEYS, *also, f"published_{metric}"]]


def verdict(difference: float, sd: float) -> str:
    """Whether a mean over seeds meets the published value.

    The tolerance is two standard deviations over seeds (NaN for one seed), and at least 0.002.
    """
    tolerance = TOLERANCE if math.isnan(sd) else max(TOLERANCE, 2 * sd)
    return "met" if abs(difference) <= tolerance else "not met"


def verdict_text(frame: pd.DataFrame, value: str) -> list[str]:
    """Published values, how far the frame's means are from them, and the verdicts."""
    texts = []
    names = (f"published_{value}", value, f"{value}_sd", "status")
    for known, mean, sd, status in zip(*(frame[name] for name in names), strict=True):
        text = number(known)
        if text != MISSING and not math.isnan(mean):
            less = mean - known
            text += f" ({number(less, signed=True)}, {verdict(less, sd)})"
            text = stale_marked(text, status)
        texts.append(text)
    return texts


@cache
def _all() -> pd.DataFrame:
    rows: dict[tuple[str, ...], tuple[float, str]] = {}
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
            rows[key] = value, row["source"]
    frame = pd.DataFrame([*rows], columns=list(CELL), dtype="str")
    known = pd.DataFrame([*rows.values()], columns=["value", "source"])
    return frame.join(known.astype({"value": float, "source": "str"}))


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
    return value
