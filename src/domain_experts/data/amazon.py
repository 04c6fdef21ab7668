"""Amazon readers: every review is a positive, the category is the domain; negatives are sampled."""

import gzip
import json
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa
from pyarrow import json as arrow_json

from domain_experts.data.interactions import Interactions
from domain_experts.data.registry import FILE_FORMATS
from domain_experts.data.sampling import with_negatives
from domain_experts.data.text import encode, read_csv
from domain_experts.errors import UserError

if TYPE_CHECKING:
    from domain_experts.data.specs import Amazon

_SUFFIX = "_5.json.gz"
_KEYS = ("reviewerID", "asin")
# a review, with its text and votes, is one line, which must fit
_BLOCK_BYTES = 16 * 2**20


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
    """Users and items of a file with one JSON object a line."""
    try:
        table = arrow_json.read_json(
            path,
            arrow_json.ReadOptions(block_size=_BLOCK_BYTES),
            arrow_json.ParseOptions(
                explicit_schema=pa.schema([(key, pa.string()) for key in _KEYS]),
                unexpected_field_behavior="ignore",
            ),
        )
    except (pa.ArrowInvalid, OSError) as error:
        _find_misfit(path, str(error))
    if table.num_rows == 0 or any(table[key].null_count for key in _KEYS):
        _find_misfit(path, "holds no reviews")
    return table.rename_columns(["user", "item"])


def _find_misfit(path: Path, reason: str) -> NoReturn:
    """The fast reader does not say where: look line by line."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                _check_review(path, number, line)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no sound gzip file of text ({error})") from None
    raise UserError(f"{path}: {reason}")


def _check_review(path: Path, number: int, line: str) -> None:
    try:
        review = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: is no JSON object ({error})") from None
    for key in _KEYS:
        if not isinstance(review, dict) or not isinstance(review.get(key), str):
            raise UserError(f"{path}, line {number}: key {key}: is missing or no text")


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
