"""A first study file for a log, guessed from its columns and first rows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from domain_experts.data.log import values
from domain_experts.data.log.files import LogFiles, form
from domain_experts.data.log.spec import Csv
from domain_experts.errors import UserError
from domain_experts.plain_text import visible

_LOOKED_AT = 200_000
_FEWEST, _MOST = 2, 200
"""Values of a column that may be the domain."""
_MIN_ROWS = 200
_WORDS = {
    "user": ("user", "uid", "user_id", "userid", "customer", "visitor", "member", "session"),
    "item": (
        "item",
        "iid",
        "item_id",
        "itemid",
        "product",
        "movie",
        "video",
        "ad",
        "article",
        "asin",
    ),
    "time": ("ts", "time", "timestamp", "date", "datetime", "created_at", "moment"),
    "label": ("click", "label", "clicked", "target", "conversion", "purchase", "is_click", "like"),
    "rating": ("rating", "stars", "score"),
    "domain": (
        "domain",
        "category",
        "genre",
        "scenario",
        "tab",
        "shop",
        "country",
        "market",
        "channel",
    ),
}
_ARMS = ("floors", "base", "mlora", "moe_mlora", "star")
_DELIMITERS = ",\t;|"


@dataclass(frozen=True)
class _Column:
    name: str
    form: str
    distinct: int
    rows: int
    missing: int
    binary: bool
    numeric: bool
    whole: bool
    dated: bool
    separator: str | None

    @property
    def said(self) -> str:
        """What is known of it, in words."""
        missing = f", {self.missing:,} missing" if self.missing else ""
        return f"{self.form}, {self.distinct:,} values{missing}"


def guess(patterns: Sequence[str]) -> str:
    """The text of a study file, with comments.

    Raises:
        UserError: a file cannot be read or has no rows.
    """
    files = LogFiles(patterns, Csv(delimiter=_delimiter(patterns)))
    names = files.schema(files.paths[0]).names
    files.require(names)
    table = next((block.table for block in files.blocks(names, _LOOKED_AT)), None)
    if table is None:
        raise UserError(f"{files.paths[0]} has no rows")
    columns = [_look(files.paths[0], name, values.plain(table[name])) for name in names]
    return _text(patterns, files, columns, table.num_rows)


def _delimiter(patterns: Sequence[str]) -> str:
    """That of a CSV file, from its first line as one column."""
    files = LogFiles(patterns, Csv(delimiter="\x1f"))
    schema = files.schema(files.paths[0])
    if len(schema.names) > 1:
        return ","
    counts = {mark: schema.names[0].count(mark) for mark in _DELIMITERS}
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ","


def _look(file: Path, name: str, array: pa.Array) -> _Column:
    with values.naming(name, file):
        return _seen(name, array)


def _seen(name: str, array: pa.Array) -> _Column:
    known = array.drop_null()
    several = form(array.type).startswith("list of ")
    text = pa.array([], pa.string()) if several else values.ids(known, "text")
    numeric = len(text) > 0 and bool(
        pc.all(pc.match_substring_regex(text, r"^-?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?$")).as_py()
    )
    whole = numeric and bool(pc.all(pc.match_substring_regex(text, r"^-?[0-9]+$")).as_py())
    distinct = pc.count_distinct(text).as_py()
    marks = [] if numeric or several else [m for m in "|;," if _separates(text, m)]
    iso = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ].*)?$"
    dated = pa.types.is_temporal(array.type) or (
        len(text) > 0 and bool(pc.all(pc.match_substring_regex(text, iso)).as_py())
    )
    binary = distinct == 2 and set(pc.unique(text).to_pylist()) in (
        {"0", "1"},
        {"true", "false"},
        {"True", "False"},
    )
    kind = "lists" if several else "moments" if dated else "numbers" if numeric else "text"
    missing = array.null_count
    separator = "|" if several else marks[0] if marks and not dated else None
    return _Column(
        name, kind, distinct, len(array), missing, binary, numeric, whole, dated, separator
    )


def _separates(text: pa.Array, mark: str) -> bool:
    """Whether many texts hold the mark, and fewer parts than texts come of it.

    A comma in titles separates nothing that comes again.
    """
    share = pc.mean(pc.match_substring(text, mark).cast(pa.int8())).as_py() or 0
    known = pc.unique(text)
    parts = pc.count_distinct(pc.list_flatten(pc.split_pattern(known, mark))).as_py()
    return bool(share > 0.2 and parts < len(known))


def _named(columns: Iterable[_Column], what: str) -> _Column | None:
    """The column whose name says what it is, whole names before parts of names."""
    columns = list(columns)
    for word in _WORDS[what]:
        for column in columns:
            if column.name.lower() == word:
                return column
    for word in _WORDS[what]:
        for column in columns:
            if word in re.split(r"[^a-z]+", column.name.lower()):
                return column
    return None


def _text(patterns: Sequence[str], files: LogFiles, columns: list[_Column], rows: int) -> str:
    warnings = []
    label = _named((c for c in columns if c.binary), "label")
    label = label or next((c for c in columns if c.binary), None)
    rating = None if label else _named((c for c in columns if c.numeric), "rating")
    task = {"label": "LABEL"}
    if label:
        task = {_key(label.name): label.name}
    elif rating:
        task = {"best": f"{rating.name} >= {_bound(files, rating.name)}"}
        warnings.append(f"no column of 0 and 1: '{rating.name}' is taken as a rating")
    else:
        warnings.append(
            "no column of 0 and 1, and no rating: say in `tasks` what is to be foretold"
        )
    left = [c for c in columns if c not in (label, rating)]
    time = _named((c for c in left if c.dated or c.whole), "time")
    time = time or next((c for c in left if c.dated), None)
    left = [c for c in left if c is not time]
    user, item = (_named((c for c in left if c.form != "lists"), w) for w in ("user", "item"))
    few = [
        c
        for c in left
        if _FEWEST <= c.distinct <= _MOST
        and not c.missing
        and c.separator is None
        and c not in (user, item)
        and (c.form == "text" or c.whole)
    ]
    domain = _named(few, "domain")
    # names rather than numbers: those may be amounts, such as an age
    domain = domain or max(few, key=lambda c: (c.form == "text", c.distinct), default=None)
    for what, found in (("user", user), ("item", item), ("time", time), ("domain", domain)):
        if found is None:
            warnings.append(f"no column looks like the {what}")
    dense, fields = [], {}
    for column in left:
        role = "user" if column is user else "item" if column is item else _key(column.name)
        entry: dict[str, object] = {} if role == column.name else {"column": column.name}
        if column.separator:
            entry["multi"] = column.separator
        elif (
            column.numeric
            and column not in (user, item, domain)
            and (not column.whole or column.distinct > _MOST)
        ):
            dense.append(column.name)
            continue
        elif column.distinct <= 1 and column.form != "lists":
            warnings.append(f"'{column.name}' is left out: it has one value")
            continue
        elif column.distinct > 0.95 * rows and rows > _MOST and column not in (user, item):
            warnings.append(f"'{column.name}' is left out: nearly each row has a value of its own")
            continue
        fields[role] = entry
    many = {c.name: c for c in left}
    given: dict[str, object] = {"files": [*patterns] if len(patterns) > 1 else patterns[0]}
    if (mark := files.csv.delimiter) != ",":
        given["csv"] = {"delimiter": mark}
    sections: list[tuple[str, dict[str, object]]] = [
        ("", given),
        (
            "Which part of the business a row is of; domains with fewer rows share one.",
            {
                "domain": {
                    "column": domain.name if domain else "DOMAIN",
                    "min_rows": _least(rows, domain),
                }
            },
        ),
        ("What is foretold: a column of 0 and 1, or a condition.", {"tasks": task}),
        (
            "Ids: " + "; ".join(f"{n}: {c.said}" for n, c in many.items() if n not in dense),
            {"fields": fields or {"user": {"column": "USER"}}},
        ),
        (
            "Numbers: " + "; ".join(f"{n}: {many[n].said}" for n in dense) if dense else "",
            {"dense": dense},
        ),
        ("", {"time": time.name if time else None}),
        (
            "Train on the past, test on what follows." if time else "No time: rows are drawn.",
            {"split": {"rule": "time" if time else "stratified", "validation": 0.1, "test": 0.1}},
        ),
        ("", {"arms": [*_ARMS], "backbones": ["wdl"], "seeds": 3}),
    ]
    lines = [f"# Guessed from {rows:,} rows of {files.paths[0]}; look it through before it is run."]
    # a line break in a name would end the comment
    lines += [visible(f"# WARNING: {warning}") for warning in warnings]
    for comment, section in sections:
        lines += [visible(f"# {comment}")] if comment else []
        # pairs of scalars would all be put into one line
        flow = None if any(isinstance(v, (dict, list)) for v in section.values()) else False
        text = yaml.safe_dump(section, sort_keys=False, default_flow_style=flow, width=100)
        lines.append(text.rstrip())
    return "\n".join(lines) + "\n"


def _least(rows: int, domain: _Column | None) -> int:
    """Training rows that a domain needs: of a small log half of an average domain's rows."""
    return min(_MIN_ROWS, max(rows // (2 * domain.distinct), 1)) if domain else _MIN_ROWS


def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "column"


def _bound(files: LogFiles, name: str) -> str:
    """A bound that about a quarter of the rows reach."""
    block = next(files.blocks([name], _LOOKED_AT))
    found = values.numbers(block, name)
    bound = float(np.nanquantile(found, 0.75, method="nearest"))
    return f"{bound:g}"
