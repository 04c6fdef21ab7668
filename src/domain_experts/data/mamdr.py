"""Reader of the data sets that the authors of MAMDR prepared: negatives and split are given.

The folder holds `processed_data/` with the maps from raw ids to ids, for Taobao with the vectors
too, and per domain a folder with `train.csv`, `val.csv`, `test.csv` and `domain_property.json`
(utils/dataset.py of their public code).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from domain_experts.data.interactions import Interactions
from domain_experts.data.registry import FILE_FORMATS
from domain_experts.data.text import read_csv
from domain_experts.errors import UserError
from domain_experts.schema import Schema

if TYPE_CHECKING:
    from domain_experts.data.specs import Mamdr

_COLUMNS = ("uid", "pid", "domain", "label")
_SPLITS = ("train.csv", "val.csv", "test.csv")
_VECTORS = {"user": "processed_data/user_emb.json", "item": "processed_data/item_emb.json"}


@dataclass(frozen=True)
class Rows:
    """All rows, by domain, then split: `table` (N, 4) int64 with user, item, domain and label."""

    users: int
    items: int
    table: np.ndarray
    split: np.ndarray
    """(N,) uint8: 0 train, 1 validation, 2 test."""
    domains: tuple[str, ...]


def read(folder: Path, file_format: str) -> Rows:
    """Read the rows.

    Raises:
        UserError: a file does not fit; the message names file, line and column.
    """
    count = sum(name.endswith(_SPLITS[0]) for name in FILE_FORMATS[file_format])
    users = _ids(folder / "processed_data/uid2id.json")
    items = _ids(folder / "processed_data/pid2id.json")
    tables, splits, domains = [], [], []
    for d in range(count):
        sizes = {"uid": (0, users), "pid": (0, items), "domain": (d, d + 1), "label": (0, 2)}
        for split, name in enumerate(_SPLITS):
            table = _read_rows(folder / f"domain_{d}" / name, sizes)
            tables.append(table)
            splits.append(np.full(len(table), split, np.uint8))
        domains.append(_name(folder / f"domain_{d}" / "domain_property.json"))
    return Rows(users, items, np.concatenate(tables), np.concatenate(splits), tuple(domains))


def _read_rows(path: Path, ranges: dict[str, tuple[int, int]]) -> np.ndarray:
    """(N, 4) int64; each column lies in its range."""
    table = read_csv(path, dict.fromkeys(_COLUMNS, pa.int64()))
    columns = []
    for name, (low, end) in ranges.items():
        cells = table[name].to_numpy()
        wrong = (cells < low) | (cells >= end)
        if wrong.any():
            row = int(wrong.argmax())
            raise UserError(
                f"{path}, line {row + 2}: column {name}: {cells[row]} is not in {low}..{end - 1}"
            )
        columns.append(cells)
    return np.stack(columns, axis=1)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON file ({error})") from None


def _ids(path: Path) -> int:
    """How many ids there are."""
    count = _entry(path, "id")
    if type(count) is not int or count < 1:
        raise UserError(f"{path}: key id: {count!r} is no number of ids")
    return count


def _name(path: Path) -> str:
    """A domain's name, as words."""
    return str(_entry(path, "domain_name")).replace("_", " ")


def _entry(path: Path, key: str) -> Any:
    content = _json(path)
    if not isinstance(content, dict) or key not in content:
        raise UserError(f"{path}: key {key}: is missing")
    return content[key]


def _read_vectors(path: Path, size: int) -> np.ndarray:
    """(size, width) float32 of a JSON object: id -> numbers with a blank between them."""
    cells = _json(path)
    ids = {str(code) for code in range(size)}
    if not isinstance(cells, dict) or set(cells) != ids:
        raise UserError(f"{path}: its keys are not the ids 0 to {size - 1}")
    rows: list[np.ndarray] = []
    for code in range(size):
        try:
            row = np.array(cells[str(code)].split(" "), np.float32)
        except (AttributeError, ValueError):
            raise UserError(
                f"{path}: key {code}: is no list of numbers with a blank between them"
            ) from None
        if rows and len(row) != len(rows[0]):
            raise UserError(f"{path}: key {code}: {len(row)} numbers, expected {len(rows[0])}")
        rows.append(row)
    return np.stack(rows)


def counts(folder: Path, file_format: str) -> dict[str, Any]:
    """Users, items and rows by split.

    Raises:
        UserError: a file does not fit.
    """
    rows = read(folder, file_format)
    train, validation, test = np.bincount(rows.split, minlength=len(_SPLITS)).tolist()
    return {
        "users": rows.users,
        "items": rows.items,
        "train": train,
        "validation": validation,
        "test": test,
    }


def interactions(folder: Path, file_format: str, spec: "Mamdr") -> Interactions:
    """The rows with their given split, and the vectors where there are any.

    Raises:
        UserError: a file does not fit.
    """
    rows = read(folder, file_format)
    sizes = {"user": rows.users, "item": rows.items}
    return Interactions(
        schema=Schema(
            fields=(*sizes.items(), ("domain", len(rows.domains))),
            dense=(),
            domains=rows.domains,
            tasks=("click",),
        ),
        fields=np.ascontiguousarray(rows.table[:, :3], np.int32),
        dense=np.zeros((len(rows.table), 0), np.float32),
        labels=rows.table[:, 3:].astype(np.uint8),
        domain=rows.table[:, 2].astype(np.int16),
        vectors={
            field: _read_vectors(folder / name, sizes[field])
            for field, name in _VECTORS.items()
            if name in FILE_FORMATS[file_format]
        },
        given_split=rows.split,
    )
