"""Strict reading of delimited text files: an error names the file, the line and the column."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pyarrow as pa
from pyarrow import csv

from domain_experts.errors import UserError

Parsers = Mapping[str, Callable[[str], int]]
"""Column -> its parser; it raises ValueError with the rest of a sentence about the cell."""


@dataclass(frozen=True)
class TextFile:
    """A text file with one row a line and nothing quoted."""

    path: Path
    separator: str
    """One character, or one repeated."""
    columns: tuple[str, ...]
    header: str | None = None
    """The first line, where it is not yet a row."""

    def refuse(self, row: int, reason: str) -> NoReturn:
        """Raise a UserError that points at a row (from 0)."""
        line = row + 1 + (self.header is not None)
        raise UserError(f"{self.path}, line {line}: {reason}")

    def check_header(self) -> None:
        """Raise a UserError if the header is not as it must be."""
        if self.header is None:
            return
        with self.path.open(encoding="iso-8859-1") as file:
            if file.readline().rstrip("\r\n") != self.header:
                raise UserError(f"{self.path}, line 1: the header must be {self.header!r}")


def positive(text: str) -> int:
    """Parse a positive whole number that fits 32 bits."""
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 2**31:
        raise ValueError("is no positive whole number")
    return int(text)


def parse_lines(file: TextFile, parsers: Parsers) -> np.ndarray:
    """Parse a small file line by line.

    Returns:
        (N, len(parsers)) int64.

    Raises:
        UserError: a line does not fit.
    """
    file.check_header()
    # the files are ISO-8859-1, in which every byte is a character
    lines = file.path.read_text(encoding="iso-8859-1").removesuffix("\n").split("\n")
    lines = lines[file.header is not None :]
    if not any(lines):
        raise UserError(f"{file.path}: holds no rows")
    positions = [(name, file.columns.index(name), parse) for name, parse in parsers.items()]
    table = np.empty((len(lines), len(positions)), np.int64)
    for row, line in enumerate(lines):
        cells = line.split(file.separator)
        if len(cells) != len(file.columns):
            file.refuse(row, f"{len(cells)} columns, expected {len(file.columns)}")
        for j, (name, position, parse) in enumerate(positions):
            try:
                table[row, j] = parse(cells[position])
            except ValueError as error:
                file.refuse(row, f"column {name}: {cells[position]!r} {error}")
    return table


def read_numbers(file: TextFile) -> dict[str, np.ndarray]:
    """Read a large file that holds positive whole numbers only.

    Returns:
        Column -> (N,) int64.

    Raises:
        UserError: a line does not fit.
    """
    file.check_header()
    # pyarrow splits at one character: '::' encloses a column that must be empty
    gaps = len(file.separator) - 1
    names = list(file.columns[:1])
    for name in file.columns[1:]:
        names += [*(f"gap {i} before {name}" for i in range(gaps)), name]
    try:
        table = csv.read_csv(
            file.path,
            csv.ReadOptions(
                column_names=names, skip_rows=int(file.header is not None), use_threads=False
            ),
            csv.ParseOptions(
                delimiter=file.separator[0], quote_char=False, ignore_empty_lines=False
            ),
            csv.ConvertOptions(
                column_types={n: pa.int64() if n in file.columns else pa.null() for n in names},
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid as error:
        _find_misfit(file, str(error))
    columns = {name: table[name] for name in file.columns}
    if table.num_rows == 0 or any(column.null_count for column in columns.values()):
        _find_misfit(file, "empty cells")
    arrays = {name: column.to_numpy() for name, column in columns.items()}
    if any(array.min() < 1 or array.max() >= 2**31 for array in arrays.values()):
        _find_misfit(file, "numbers out of range")
    return arrays


def _find_misfit(file: TextFile, reason: str) -> NoReturn:
    """The fast reader does not say where: look line by line."""
    parse_lines(file, dict.fromkeys(file.columns, positive))
    raise UserError(f"{file.path}: cannot be read ({reason})")
