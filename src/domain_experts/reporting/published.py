"""Published numbers: data beside the code, one cell a line; unknown cells have no line."""

import csv
import math
from collections.abc import Callable, Sequence
from importlib.resources import files

import pandas as pd

from domain_experts.errors import UserError

COLUMNS = ("source", "dataset", "backbone", "arm", "metric", "value")
PARTS = ("variant", "domain", "task")
"""Columns that a file may have after `arm`; where it has none they are empty."""
KEYS = ["dataset", "backbone", "arm"]
TOLERANCE = 0.002

_AUC = (lambda value: 0 <= value <= 1, "an AUC between 0 and 1")
_POSITIVE = (lambda value: 0 < value < math.inf, "a positive number")
_CHANGE = (lambda value: -1 < value < math.inf, "a relative change above -1")
METRICS: dict[str, tuple[Callable[[float], bool], str]] = {
    "wauc": _AUC,
    "macro_auc": _AUC,
    # M3oE: of one domain and task, and the plain mean of all these
    "auc": _AUC,
    "overall_auc": _AUC,
    "log_loss": _POSITIVE,
    "rela_impr": _CHANGE,
    "users": _POSITIVE,
    "items": _POSITIVE,
    "rows": _POSITIVE,
    "best_learning_rate": _POSITIVE,
    "best_shared_experts": _POSITIVE,
}


def published(metric: str, keys: Sequence[str] = KEYS) -> pd.DataFrame:
    """Published cells of one metric: its keys and `published`.

    Args:
        metric: One of METRICS.
        keys: Of dataset, backbone, arm, variant, domain and task, those that tell the metric's
            cells apart. The data set is one of params.yaml, or for M3oE the source of several.

    Raises:
        UserError: a line does not fit; the message names file and line.
    """
    names = ["metric", *KEYS, *PARTS]
    cells: dict[tuple[str, ...], float] = {}
    for file in sorted(files("domain_experts.reporting").joinpath("published").iterdir(), key=str):
        if not file.name.endswith(".csv"):
            continue
        reader = csv.DictReader(file.read_text(encoding="utf-8").splitlines(), strict=True)
        for row in reader:
            where = f"published/{file.name}, line {reader.line_num}"
            value = _value(row, where)
            key = tuple(row.get(name, "") for name in names)
            if key in cells:
                raise UserError(f"{where}: this cell has a value already; keep one of the lines")
            cells[key] = value
    frame = pd.DataFrame([*cells], columns=names, dtype="str").assign(published=[*cells.values()])
    chosen = frame.loc[frame["metric"] == metric, [*keys, "published"]]
    return chosen.astype({"published": "float64"}).reset_index(drop=True)


def verdict(difference: float, sd: float) -> str:
    """Whether a mean over seeds meets the published value.

    The tolerance is two standard deviations over seeds (NaN for one seed), and at least 0.002.
    """
    tolerance = TOLERANCE if math.isnan(sd) else max(TOLERANCE, 2 * sd)
    return "met" if abs(difference) <= tolerance else "not met"


def _value(row: dict[str, str], where: str) -> float:
    with_parts = (*COLUMNS[:4], *PARTS, *COLUMNS[4:])
    if tuple(row) not in (COLUMNS, with_parts) or None in row.values():
        raise UserError(
            f"{where}: expected the columns {', '.join(COLUMNS)}, or {', '.join(with_parts)}"
        )
    if row["metric"] not in METRICS:
        raise UserError(
            f"{where}: metric '{row['metric']}' is unknown; known are {', '.join(METRICS)}"
        )
    try:
        value = float(row["value"])
    except ValueError:
        raise UserError(f"{where}: value '{row['value']}' is not a number") from None
    fits, what = METRICS[row["metric"]]
    if not fits(value):
        raise UserError(f"{where}: value {value} is not {what}")
    return value
