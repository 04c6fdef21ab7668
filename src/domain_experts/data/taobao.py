"""Taobao reader: clicks by theme, and pretrained vectors of users and items (Tianchi 9716).

The rules are those of the public code of MAMDR (dataset/Taobao/preprocess_data.py).
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from domain_experts.data.interactions import Interactions
from domain_experts.data.registry import FILE_FORMATS
from domain_experts.data.sampling import with_negatives
from domain_experts.data.text import (
    csv_header,
    csv_options,
    encode,
    naming_misfits,
    read_csv,
    refuse_gaps,
)
from domain_experts.errors import UserError

if TYPE_CHECKING:
    from domain_experts.data.specs import Taobao

PUBLISHED_THEMES = (10, 20, 30)


@dataclass(frozen=True)
class Clicks:
    """Clicks whose user and item have a vector, ordered by theme, then as in the log.

    `user` and `item` are (N,) string columns, `theme` (N,) int64 numbers in the order in which the
    themes appear in the whole log, so some may have no rows.
    """

    user: pa.ChunkedArray
    item: pa.ChunkedArray
    theme: np.ndarray

    def first_themes(self, themes: int) -> "Clicks":
        """The clicks of the first themes that have any."""
        kept = np.isin(self.theme, np.unique(self.theme)[:themes])
        return Clicks(self.user.filter(kept), self.item.filter(kept), self.theme[kept])


def read_clicks(folder: Path, file_format: str) -> Clicks:
    """Read the log.

    Raises:
        UserError: a line does not fit, or no click has both vectors.
    """
    log_name, item_name, user_name = FILE_FORMATS[file_format]
    log = read_csv(
        folder / log_name, dict.fromkeys(("user_id", "item_id", "theme_id"), pa.string())
    )
    theme, _ = encode(log["theme_id"])
    kept = pc.and_(
        pc.is_in(log["user_id"], value_set=_ids(folder / user_name)),
        pc.is_in(log["item_id"], value_set=_ids(folder / item_name)),
    ).to_numpy()
    if not kept.any():
        raise UserError(f"{folder / log_name}: no click is of a user and an item with vectors")
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(theme[rows], kind="stable")]
    return Clicks(log["user_id"].take(rows), log["item_id"].take(rows), theme[rows])


def _vector_columns(path: Path) -> tuple[str, str]:
    columns = csv_header(path)
    if len(columns) != 2:
        raise UserError(f"{path}, line 1: {len(columns)} columns, expected an id and its vector")
    return columns[0], columns[1]


def _ids(path: Path) -> pa.Array:
    """Ids that have a vector."""
    column, _ = _vector_columns(path)
    ids = read_csv(path, {column: pa.string()})[column]
    codes, unique = encode(ids)
    if len(unique) < len(codes):
        _, first = np.unique(codes, return_index=True)
        row = int(np.setdiff1d(np.arange(len(codes)), first)[0])
        raise UserError(f"{path}, line {row + 2}: column {column}: repeats an earlier line")
    return unique


def read_vectors(path: Path, ids: pa.Array) -> np.ndarray:
    """Read the vectors of some ids: numbers in one cell, with a blank between them.

    Args:
        path: CSV file with a header, an id and its vector a line.
        ids: (n,) strings, each in the file.

    Returns:
        (n, width) float32, in the order of `ids`.

    Raises:
        UserError: a line does not fit.
    """
    id_column, vector_column = columns = _vector_columns(path)
    table: np.ndarray | None = None
    rows_before = 0
    with naming_misfits(path, list(columns)):
        for batch in csv.open_csv(path, **csv_options(dict.fromkeys(columns, pa.string()))):
            refuse_gaps(path, pa.table(batch), rows_before)
            row_of = pc.index_in(batch[id_column], value_set=ids)
            wanted = pc.is_valid(row_of)
            lines = rows_before + np.flatnonzero(wanted.to_numpy(zero_copy_only=False)) + 2
            if len(lines):
                cells = batch[vector_column].filter(wanted)
                vectors = _parse(path, vector_column, cells, lines, table)
                if table is None:
                    table = np.empty((len(ids), vectors.shape[1]), np.float32)
                table[row_of.filter(wanted).to_numpy()] = vectors
            rows_before += len(batch)
    if table is None:
        raise ValueError("no id is in the file")
    return table


def _parse(
    path: Path, column: str, cells: pa.Array, lines: np.ndarray, table: np.ndarray | None
) -> np.ndarray:
    """(n, width) float32 of cells; the width must be that of the table, if there is one."""
    parts = pc.split_pattern(cells, " ")
    widths = pc.list_value_length(parts).to_numpy()
    width = widths[0] if table is None else table.shape[1]
    if (widths != width).any():
        row = int((widths != width).argmax())
        raise UserError(
            f"{path}, line {lines[row]}: column {column}: {widths[row]} numbers, expected {width}"
        )
    try:
        numbers = parts.flatten().cast(pa.float32()).to_numpy()
    except pa.ArrowInvalid:
        numbers = np.array([_number(part) for part in parts.flatten().to_pylist()], np.float32)
    vectors = numbers.reshape(-1, width)
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        line = lines[int(finite.argmin())]
        raise UserError(f"{path}, line {line}: column {column}: holds what is no finite number")
    return np.asarray(vectors)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def counts(folder: Path, file_format: str) -> dict[str, Any]:
    """Users and items of the first 10, 20 and 30 themes.

    Raises:
        UserError: a line does not fit.
    """
    clicks = read_clicks(folder, file_format)
    parts = [clicks.first_themes(themes) for themes in PUBLISHED_THEMES]
    return {
        "users": tuple(len(encode(part.user)[1]) for part in parts),
        "items": tuple(len(encode(part.item)[1]) for part in parts),
    }


def interactions(folder: Path, file_format: str, spec: "Taobao") -> Interactions:
    """Clicks of the first themes as positives, sampled negatives, and the pretrained vectors.

    Users and items are numbered in the order in which they appear, theme after theme, so a smaller
    choice of themes is the beginning of a larger one.

    Raises:
        UserError: a line does not fit, or there are fewer themes than asked for.
    """
    _, item_name, user_name = FILE_FORMATS[file_format]
    clicks = read_clicks(folder, file_format).first_themes(spec.themes)
    numbers, domain = np.unique(clicks.theme, return_inverse=True)
    if len(numbers) < spec.themes:
        raise UserError(
            f"{folder}: {len(numbers)} themes have clicks, {spec.themes} are asked for; lower "
            "`themes` (data.datasets in params.yaml)"
        )
    user, users = encode(clicks.user)
    item, items = encode(clicks.item)
    made = with_negatives(user, item, domain, [f"theme {number}" for number in numbers])
    vectors = {
        "user": read_vectors(folder / user_name, users),
        "item": read_vectors(folder / item_name, items),
    }
    return replace(made, vectors=vectors)
