"""Strict reading of delimited text files: an error names the file, the line and the column."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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


def read_csv(
    path: Path,
    columns: Mapping[str, pa.DataType],
    gaps: Collection[str] = (),
    separator: str = ",",
) -> pa.Table:
    """Read some columns, found by name in the header, of a large CSV file.

    Args:
        path: The file.
        columns: Name -> type.
        gaps: Columns in which empty cells are allowed; they are null.
        separator: Between two cells; only where it is a comma, cells may be quoted.

    Raises:
        UserError: a column is missing, or a line does not fit.
    """
    known = csv_header(path, separator)
    for name in columns:
        if name not in known:
            raise UserError(
                f"{path}, line 1: no column '{name}'; there are {', '.join(map(repr, known))}"
            )
    with naming_misfits(path, known):
        table = csv.read_csv(path, **csv_options(columns, separator))
    refuse_gaps(path, table.drop_columns(list(gaps)), 0)
    if table.num_rows == 0:
        raise UserError(f"{path}: holds no rows")
    return table


def csv_header(path: Path, separator: str = ",") -> list[str]:
    """Names in the first line."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [name.strip('"') for name in file.readline().rstrip("\r\n").split(separator)]


def csv_options(columns: Mapping[str, pa.DataType], separator: str = ",") -> dict[str, Any]:
    """Options of pyarrow's CSV readers; empty cells are null."""
    return {
        # one thread: only then a misfit is reported with its line
        "read_options": csv.ReadOptions(use_threads=False),
        "parse_options": csv.ParseOptions(
            delimiter=separator,
            quote_char='"' if separator == "," else False,
            ignore_empty_lines=False,
        ),
        "convert_options": csv.ConvertOptions(
            column_types=dict(columns),
            include_columns=list(columns),
            null_values=[""],
            strings_can_be_null=True,
        ),
    }


@contextmanager
def naming_misfits(path: Path, columns: list[str]) -> Iterator[None]:
    """Turn an error of pyarrow's CSV reader into one that names line and column."""
    try:
        yield
    except pa.ArrowException as error:
        text = str(error)
        cell = re.search(r"CSV column #(\d+): Row #(\d+): (.*)", text)
        line = re.search(r"Row #(\d+): (.*)", text)
        if cell:
            where = f", line {cell[2]}: column {columns[int(cell[1])]}: {cell[3]}"
        elif line:
            where = f", line {line[1]}: {line[2]}"
        else:
            where = f": {text}"
        raise UserError(f"{path}{where}") from None


def refuse_gaps(path: Path, table: pa.Table, rows_before: int) -> None:
    """Raise a UserError at the first empty cell; the header is line 1."""
    for name in table.column_names:
        if table[name].null_count:
            row = pc.index(pc.is_null(table[name]), True).as_py()
            raise UserError(f"{path}, line {rows_before + row + 2}: column {name}: is empty")


def encode(values: pa.ChunkedArray) -> tuple[np.ndarray, pa.Array]:
    """Number values from 0 in the order in which they appear.

    Returns:
        (N,) int64 codes, and the value of each code.
    """
    encoded = pa.concat_arrays(values.chunks).dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary
