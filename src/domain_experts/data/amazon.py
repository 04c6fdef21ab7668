"""Amazon readers: every review is a positive, the category is the domain; negatives are sampled."""

import gzip
import json
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from domain_experts.data.interactions import Interactions
from domain_experts.data.registry import FILE_FORMATS
from domain_experts.data.sampling import with_negatives
from domain_experts.data.text import encode, read_csv
from domain_experts.errors import UserError

if TYPE_CHECKING:
    from domain_experts.data.specs import Amazon

_SUFFIX = "_5.json.gz"
_KEYS = ("reviewerID", "asin")
# a review, with its text and votes, is one line
_LONGEST = 16 * 2**20
_ROWS = 1 << 17


def _read(folder: Path, file_format: str) -> tuple[pa.Table, list[str]]:
    """The reviews' users, items and domain codes in file order, and the domains' names."""
    if file_format == "amazon-3":
        (name,) = FILE_FORMATS[file_format]
        table = read_csv(folder / name, dict.fromkeys(("user", "item", "domain"), pa.string()))
        domain, names = encode(table["domain"])
        return table.set_column(2, "domain", pa.array(domain)), names.to_pylist()
    parts = []
    for d, name in enumerate(FILE_FORMATS[file_format]):
        part = _read_reviews(folder / name)
        parts.append(part.append_column("domain", pa.array(np.full(part.num_rows, d))))
    names = [name.removesuffix(_SUFFIX).replace("_", " ") for name in FILE_FORMATS[file_format]]
    return pa.concat_tables(parts), names


def _read_reviews(path: Path) -> pa.Table:
    """Users and items of a file with one JSON object a line.

    Not by pyarrow's reader, which ends the process at a line `null`.
    """
    parts, found = [], []
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            lines = iter(partial(file.readline, _LONGEST), "")
            for number, line in enumerate(lines, start=1):
                found.append(_review(path, number, line))
                if len(found) == _ROWS:
                    parts.append(_table(found))
                    found = []
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no sound gzip file of text ({error})") from None
    if not parts and not found:
        raise UserError(f"{path}: is empty, it holds no reviews")
    return pa.concat_tables([*parts, _table(found)])


def _table(found: list[tuple[str, ...]]) -> pa.Table:
    columns = zip(*found, strict=True) if found else ((), ())
    return pa.table([pa.array(column, pa.string()) for column in columns], ["user", "item"])


def _review(path: Path, number: int, line: str) -> tuple[str, ...]:
    """The texts of _KEYS in a line."""
    if len(line) == _LONGEST:
        raise UserError(f"{path}, line {number}: is longer than {_LONGEST:,} letters")
    try:
        review = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}, line {number}: is no JSON object ({error})") from None
    for key in _KEYS:
        text = review.get(key) if isinstance(review, dict) else None
        # half of a pair of UTF-16 may be escaped in JSON, but is no letter
        if not isinstance(text, str) or any("\ud800" <= char <= "\udfff" for char in text):
            raise UserError(f"{path}, line {number}: key {key}: is missing or no text")
    return tuple(review[key] for key in _KEYS)


def counts(folder: Path, file_format: str) -> dict[str, Any]:
    """Reviews, users and items of all domains, and the reviews of each.

    Raises:
        UserError: a line does not fit.
    """
    table, names = _read(folder, file_format)
    return {
        "rows": table.num_rows,
        "users": len(encode(table["user"])[1]),
        "items": len(encode(table["item"])[1]),
        "rows_by_domain": dict(
            zip(names, np.bincount(table["domain"].to_numpy()).tolist(), strict=True)
        ),
    }


def interactions(folder: Path, file_format: str, spec: "Amazon") -> Interactions:
    """Reviews as positives, whatever their score, and sampled negatives.

    A user and item count once a domain; the public code of MAMDR counts them once a score. Users
    and items are numbered in the order in which they appear, category after category.

    Raises:
        UserError: a line does not fit.
    """
    table, names = _read(folder, file_format)
    user, item = encode(table["user"])[0], encode(table["item"])[0]
    return with_negatives(user, item, table["domain"].to_numpy(), names)
