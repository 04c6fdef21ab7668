"""The files of a log: which there are, their columns, and their rows in blocks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.dataset as ds

from domain_experts.data.log.listing import find, is_parquet, stamps
from domain_experts.data.log.spec import Csv
from domain_experts.errors import UserError
from domain_experts.files import sha256
from domain_experts.suggest import unknown

BLOCK = 1 << 19
"""Rows that are read and encoded at a time."""


@dataclass(frozen=True)
class Block:
    """Rows that follow each other in one file."""

    file: Path
    start: int
    """Number, in the file, of the first row; from 0."""
    table: pa.Table

    def where(self, row: int) -> str:
        """A row in words, counted from 1 (a CSV file's heading not counted)."""
        return f"{self.file}, row {self.start + row + 1:,}"


class LogFiles:
    """The files that patterns name, in order of their names.

    All columns of a CSV file are text: what they mean is said by the study, not guessed from the
    first rows.

    Raises:
        UserError: a pattern fits no file, or a file is of no known form.
    """

    def __init__(self, patterns: Sequence[str], csv: Csv | None = None) -> None:
        self.csv = csv or Csv()
        self.paths = find(patterns)
        self._stamps = stamps(self.paths)
        self._sets = {path: self._open(path) for path in self.paths}

    def schema(self, path: Path) -> pa.Schema:
        """Columns of a file."""
        return self._sets[path].schema

    def require(self, columns: Sequence[str]) -> None:
        """Refuse files that lack a column or hold it in another form than the first file.

        Raises:
            UserError: names file, column and what is nearest.
        """
        first = self.schema(self.paths[0])
        for path, column in ((p, c) for p in self.paths for c in columns):
            schema = self.schema(path)
            if column not in schema.names:
                raise UserError(f"{path}: {unknown('column', column, schema.names)}")
            a, b = first.field(column).type, schema.field(column).type
            if pa.types.is_null(a) or pa.types.is_null(b) or form(a) == form(b):
                continue
            raise UserError(
                f"files have different schemas: column '{column}' is {a} in {self.paths[0]} and "
                f"{b} in {path}; write it in one form"
            )

    def blocks(self, columns: Sequence[str], rows: int = BLOCK) -> Iterator[Block]:
        """All rows, `rows` at a time, whatever the files' own batches.

        Raises:
            UserError: a file cannot be read.
        """
        for path in self.paths:
            start, waiting, held = 0, [], 0
            try:
                for batch in self._batches(path, columns):
                    taken = 0
                    while taken < batch.num_rows:
                        part = batch.slice(taken, rows - held)
                        taken += part.num_rows
                        waiting.append(part)
                        held += part.num_rows
                        if held == rows:
                            yield Block(path, start, pa.Table.from_batches(waiting))
                            start, waiting, held = start + held, [], 0
            except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
                raise UserError(f"{path} cannot be read: {_line(error)}") from None
            if held:
                yield Block(path, start, pa.Table.from_batches(waiting))

    def refuse_changed(self) -> None:
        """Refuse files that changed since they were listed.

        Raises:
            UserError: names the file.
        """
        for before, now in zip(self._stamps, stamps(self.paths), strict=True):
            if before != now:
                raise UserError(
                    f"{before[0]} changed while it was read; run again when it is whole"
                )

    def digests(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {path.as_posix(): sha256(path) for path in self.paths}

    def _open(self, path: Path) -> ds.Dataset:
        try:
            return ds.dataset(path, format=self._format(path))
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            raise UserError(f"{path} cannot be read: {_line(error)}") from None

    def _format(self, path: Path) -> ds.FileFormat:
        if is_parquet(path):
            # what is fetched ahead is held until the file's end: the whole file, in the end
            return ds.ParquetFileFormat(pre_buffer=False, use_buffered_stream=True)
        parse = pa_csv.ParseOptions(delimiter=self.csv.delimiter)
        read = pa_csv.ReadOptions(encoding=self.csv.encoding)
        plain = ds.dataset(path, format=ds.CsvFileFormat(parse, read_options=read)).schema
        convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(plain.names, pa.string()),
            strings_can_be_null=True,
            null_values=[""],
        )
        return ds.CsvFileFormat(parse, convert_options=convert, read_options=read)

    def _batches(self, path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        scanner = self._sets[path].scanner(
            columns=list(columns), batch_size=1 << 17, batch_readahead=4, fragment_readahead=1
        )
        yield from scanner.to_batches()


def form(kind: pa.DataType) -> str:
    """What a column's type is to a log: numbers of any width are alike, as are texts."""
    if pa.types.is_dictionary(kind):
        return form(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return f"list of {form(kind.value_type)}"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        # pandas makes floats of whole numbers where some are missing
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    return str(kind)


def _line(error: Exception) -> str:
    return str(error).splitlines()[0]
