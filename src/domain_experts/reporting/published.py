"""Published numbers: data beside the code, one number a line; unknown ones have no line.

Each names the data set, backbone, arm and variant of params.yaml whose runs it can be held against,
and so the rows it is about. A number of a data set or variant that params.yaml does not have is not
shown. `test_rows` says whether it was measured on the test rows that the data set has here: `same`,
`other` or `unknown`; empty for what is not measured on test rows.
"""

import csv
import hashlib
import math
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import pandas as pd

from domain_experts.errors import UserError
from domain_experts.registry import ARMS, BACKBONES
from domain_experts.reporting.columns import column, stale_marked
from domain_experts.reporting.frame import KEYS
from domain_experts.reporting.render import MISSING, number
from domain_experts.reporting.statistics import BETTER, EQUIVALENT, UNDECIDED, WORSE, verdicts
from domain_experts.runs import DEFAULT_VARIANT
from domain_experts.settings import RunSettings
from domain_experts.suggest import unknown

CELL = ("dataset", "backbone", "arm", "variant", "domain", "task", "metric")
"""What tells two numbers apart."""
COLUMNS = ("source", *CELL, "value", "test_rows")
PUBLISHED = Path("src/domain_experts/reporting/published")
SUMS = "SHA256SUMS"
SAME, OTHER, NOT_KNOWN = "same", "other", "unknown"
TEST_ROWS = {SAME: "", OTHER: "other test rows", NOT_KNOWN: "test rows unknown"}
"""What a cell says of them."""
MET, NOT_TOLD_APART = "met", "not told apart"
SAID = {
    EQUIVALENT: MET,
    UNDECIDED: NOT_TOLD_APART,
    **{found: f"{found} than published" for found in (BETTER, WORSE)},
}
"""Verdicts on differences in words of published values."""

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
        "In brackets: the mean over seeds less the published value, and the verdict. "
        + meanings(margin),
        "Half, double: the verdict if the margin were half or twice as wide, where it is another. "
        "One seed: no verdict, as it does not tell how runs differ.",
        "Test rows unknown: which rows the published value was measured on cannot be told from "
        "the paper and its code, so that a part of the difference may be theirs.",
    ]


def meanings(margin: float) -> str:
    """The verdicts on published values in words."""
    return (
        f"{MET.capitalize()}: the whole 95 % interval of the difference (of the test users and the "
        "spread over seeds; of other metrics than WAUC and mean AUC, and where it is not stored, "
        "Student's t over seeds), widened by half of the published value's last digit, lies within "
        f"±{margin:g}; of other metrics than AUC no margin is set, and none is met. Better or "
        f"worse than published: it excludes 0, and more than that; {NOT_TOLD_APART}: it holds 0, "
        "but is too wide to say that the value is met."
    )


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


def verdicts_on(frame: pd.DataFrame, value: str, margin: float) -> list[str]:
    """How each mean stands to the published value, by the rule of `statistics.verdicts`.

    The difference is known less well by half of the published value's last digit either way.

    Args:
        frame: as `verdict_text` takes it.
        value: name of the metric.
        margin: differences within it do not matter; NaN: none is set, and nothing is met.
    """
    known, lower = f"published_{value}", column(value).better == "lower"
    less = frame[value] - frame[known]
    reach = frame[f"{value}_half"] + frame[f"{known}_rounding"]
    ends = {"low": less - reach, "high": less + reach, "gain_n": frame[f"{value}_n"]}
    return [SAID.get(found, found) for found in verdicts(pd.DataFrame(ends), margin, lower)]


def verdict_text(frame: pd.DataFrame, value: str, margin: float) -> list[str]:
    """Published values, how far the frame's means are from them, and the verdicts.

    Args:
        frame: has of the value its mean, its number of seeds `<value>_n`, `<value>_half` and what
            `published` gives.
        value: name of the metric.
        margin: differences within it do not matter; NaN: none is set.
    """
    known = f"published_{value}"
    at = {
        name: verdicts_on(frame, value, margin * scale)
        for name, scale in (("", 1.0), ("half", 0.5), ("double", 2.0))
    }
    names = (known, value, f"{known}_rows", "status")
    texts = []
    for i, (printed, mean, rows, status) in enumerate(
        zip(*(frame[name] for name in names), strict=True)
    ):
        text = number(printed)
        if text != MISSING and not math.isnan(mean):
            said = at[""][i]
            others = [f"{name}: {own[i]}" for name, own in at.items() if own[i] != said]
            parts = [number(mean - printed, signed=True), "; ".join([said, *others])]
            text += f" ({', '.join(filter(None, [*parts, TEST_ROWS[rows]]))})"
            text = stale_marked(text, status)
        texts.append(text)
    return texts


def check_published() -> dict[str, str]:
    """Texts of the files of published values by name, each held to its line in SHA256SUMS.

    Raises:
        UserError: a file is missing, damaged, or not listed.
    """
    folder = files("domain_experts.reporting").joinpath("published")
    there = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    lines = there.pop(SUMS, b"").decode("utf-8", "replace").splitlines()
    kept = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    for name in sorted(kept.keys() | there.keys()):
        digest = hashlib.sha256(there[name]).hexdigest() if name in there else None
        if digest is None or kept.get(name) != digest:
            raise UserError(
                f"{PUBLISHED / name} is damaged: it is not the file that {SUMS} beside it lists; "
                f"`git checkout -- {PUBLISHED}` brings it back, and after a change that was meant "
                f"`cd {PUBLISHED} && sha256sum *.csv > {SUMS}` lists it"
            )
    return {name: _text(name, there[name]) for name in sorted(there)}


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"published/{name}, line {line}: is no UTF-8 ({error.reason})") from None


@cache
def _all() -> pd.DataFrame:
    rows: dict[tuple[str, ...], tuple[float, float, str, str]] = {}
    for name, text in check_published().items():
        for line, row in _lines(name, text):
            where = f"published/{name}, line {line}"
            value = _value(row, where)
            key = tuple(row[name] for name in CELL)
            if key in rows:
                raise UserError(f"{where}: this cell has a value already; keep one of the lines")
            digits = len(row["value"].partition(".")[2])
            rows[key] = value, 0.5 * 10**-digits, row["test_rows"], row["source"]
    frame = pd.DataFrame([*rows], columns=list(CELL), dtype="str")
    values = pd.DataFrame([*rows.values()], columns=["value", "rounding", "test_rows", "source"])
    return frame.join(values)


def _lines(name: str, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"published/{name}, line {reader.line_num}: {error}") from None


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
