"""Published numbers: data beside the code, one cell a line; unknown cells have no line."""

import csv
import math
from importlib.resources import files

import pandas as pd

from domain_experts.errors import UserError

COLUMNS = ("source", "dataset", "backbone", "arm", "metric", "value")
METRICS = ("wauc", "macro_auc")
KEYS = ["dataset", "backbone", "arm"]
TOLERANCE = 0.002


def published(metric: str) -> pd.DataFrame:
    """Published cells of one metric: dataset, backbone, arm, published.

    Raises:
        UserError: a line does not fit; the message names file and line.
    """
    cells: dict[tuple[str, ...], float] = {}
    for file in sorted(files("domain_experts.reporting").joinpath("published").iterdir(), key=str):
        if not file.name.endswith(".csv"):
            continue
        reader = csv.DictReader(file.read_text(encoding="utf-8").splitlines(), strict=True)
        for row in reader:
            where = f"published/{file.name}, line {reader.line_num}"
            value = _value(row, where)
            key = (row["metric"], *(row[name] for name in KEYS))
            if key in cells:
                raise UserError(f"{where}: this cell has a value already; keep one of the lines")
            cells[key] = value
    chosen = [(*key, value) for (name, *key), value in cells.items() if name == metric]
    return pd.DataFrame(chosen, columns=[*KEYS, "published"]).astype({"published": "float64"})


def verdict(difference: float, sd: float) -> str:
    """Whether a mean over seeds meets the published value.

    The tolerance is two standard deviations over seeds (NaN for one seed), and at least 0.002.
    """
    tolerance = TOLERANCE if math.isnan(sd) else max(TOLERANCE, 2 * sd)
    return "met" if abs(difference) <= tolerance else "not met"


def _value(row: dict[str, str], where: str) -> float:
    if tuple(row) != COLUMNS or None in row.values():
        raise UserError(f"{where}: expected the columns {', '.join(COLUMNS)}")
    if row["metric"] not in METRICS:
        raise UserError(
            f"{where}: metric '{row['metric']}' is unknown; known are {', '.join(METRICS)}"
        )
    try:
        value = float(row["value"])
    except ValueError:
        raise UserError(f"{where}: value '{row['value']}' is not a number") from None
    if not 0 <= value <= 1:
        raise UserError(f"{where}: value {value} is not an AUC between 0 and 1")
    return value
