"""Probabilities for new rows: a stream of blocks, encoded and scored by threads side by side."""

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from scipy.special import expit

from domain_experts.data.log import values
from domain_experts.data.log.encoder import Encoder
from domain_experts.data.log.files import Block, LogFiles
from domain_experts.errors import UserError
from domain_experts.files import replacing
from domain_experts.schema import Schema
from domain_experts.serving.model import SavedModel
from domain_experts.suggest import unknown

ROWS = 1 << 16
"""Rows that are read, encoded and written at a time."""
PIECE = 1 << 13
"""Rows that go through the model at a time; what is between its layers fits a cache."""
PROBABILITY = "p_"
"""What the names of the probability columns begin with; a task's follows."""
DOMAIN = "domain"
Rows = tuple[np.ndarray, ...]
"""Codes (N, C), dense features (N, K) and domains (N,)."""


@dataclass(frozen=True)
class Codes:
    """Reads tables of codes, with the columns of Interactions' Parquet record."""

    schema: Schema

    @property
    def needed(self) -> list[str]:
        """Names of the columns that are read."""
        fields = [f"field:{name}" for name, _ in self.schema.fields]
        return [*fields, *(f"dense:{name}" for name in self.schema.dense), DOMAIN]

    def rows(self, block: Block) -> Rows:
        """The rows of a block.

        Raises:
            UserError: a code is out of range; names the row.
        """
        schema, table, fields = self.schema, block.table, []
        sizes = zip(schema.fields, schema.widths or (1,) * len(schema.fields), strict=True)
        for (name, size), width in sizes:
            column = f"field:{name}"
            if width == 1:
                codes = values.numbers(block, column)[:, None]
            else:
                flat = values.plain(table[column]).flatten().to_numpy()
                if len(flat) != width * table.num_rows:
                    raise UserError(
                        f"{block.file}: column '{column}' must hold {width} codes in each row"
                    )
                codes = flat.reshape(-1, width)
            _refuse_range(block, column, codes, size)
            fields.append(codes)
        dense = [values.numbers(block, f"dense:{name}")[:, None] for name in schema.dense]
        domain = values.numbers(block, DOMAIN)
        _refuse_range(block, DOMAIN, domain[:, None] + 1, len(schema.domains) + 1)
        return (
            np.concatenate(fields, 1).astype(np.int32),
            np.concatenate([np.empty((len(domain), 0)), *dense], 1).astype(np.float32),
            domain.astype(np.int64),
        )


def _refuse_range(block: Block, column: str, codes: np.ndarray, size: int) -> None:
    wrong = ~((codes >= 0) & (codes < size) & (codes == np.floor(codes))).all(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(
            f"{block.where(row)}: column '{column}' holds no code of the model's data; this model "
            f"has no vocabulary and takes the codes of its data set"
        )


@dataclass(frozen=True)
class Columns:
    """Reads the columns of a log."""

    encoder: Encoder

    @property
    def needed(self) -> list[str]:
        """Names of the columns that are read."""
        columns = self.encoder.columns
        read = [
            *(of.column or name for name, of in columns.fields.items()),
            *columns.history,
            *(of.column for of in columns.dense),
            columns.domain.column,
        ]
        return [name for name in dict.fromkeys(read) if name not in self.encoder.constants]

    def rows(self, block: Block) -> Rows:
        """The rows of a block.

        Raises:
            UserError: a value does not fit its column.
        """
        encoded = self.encoder.encode(block.table.select(self.needed))
        return encoded.fields, encoded.dense, encoded.domain.astype(np.int64)


def reader_of(model: SavedModel) -> Codes | Columns:
    """What reads tables for a model."""
    return Codes(model.schema) if model.encoder is None else Columns(model.encoder)


def probabilities(model: SavedModel, rows: Rows) -> np.ndarray:
    """(N, T) float32 probabilities of a positive label."""
    starts = range(0, len(rows[0]), PIECE)
    pieces = [tuple(part[start : start + PIECE] for part in rows) for start in starts]
    logits = [np.empty((0, len(model.schema.tasks))), *(model.logits(*own) for own in pieces)]
    return np.asarray(expit(np.concatenate(logits)), np.float32)


def score(
    model: SavedModel,
    files: LogFiles,
    target: Path,
    keep: Sequence[str] = (),
) -> int:
    """Write the probabilities of all rows of some files, in their order.

    Args:
        model: scores.
        files: Parquet or CSV files.
        target: written as Parquet, or as CSV by its suffix: the kept columns, and `p_<task>`.
        keep: columns of the files that are written as they are.

    Returns:
        The number of rows.

    Raises:
        UserError: a column is missing or does not fit; rows cannot be scored.
    """
    reader, schema = reader_of(model), files.schema(files.paths[0])
    for name in keep:
        if name not in schema.names:
            raise UserError(f"--keep: {files.paths[0]}: {unknown('column', name, schema.names)}")
    wanted = list(dict.fromkeys([*reader.needed, *keep]))
    files.require(wanted)
    made = [f"{PROBABILITY}{task}" for task in model.schema.tasks]
    if twice := [name for name in keep if name in made]:
        raise UserError(
            f"--keep: a probability is written to column '{twice[0]}', which the file has already; "
            "leave it out or rename it"
        )
    kept: list[pa.Field] = [schema.field(name) for name in dict.fromkeys(keep)]
    written = pa.schema([*kept, *((name, pa.float32()) for name in made)])
    number = 0
    with replacing(target) as temporary, _writer(temporary, target.suffix, written) as out:
        for block, found in _scored(model, reader, files.blocks(wanted, ROWS)):
            columns = [block.table[of.name].cast(of.type) for of in kept]
            out.write_table(pa.table([*columns, *map(pa.array, found.T)], schema=written))
            number += len(found)
    return number


def _scored(
    model: SavedModel, reader: Codes | Columns, blocks: Iterable[Block]
) -> Iterator[tuple[Block, np.ndarray]]:
    """Blocks and their probabilities, in order; as many are made at once as there are cores."""
    workers = os.cpu_count() or 1

    def made(block: Block) -> tuple[Block, np.ndarray]:
        return block, probabilities(model, reader.rows(block))

    waiting: deque[Future[tuple[Block, np.ndarray]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for block in blocks:
                waiting.append(pool.submit(made, block))
                # one more, so that nobody waits for the reader
                if len(waiting) > workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _writer(path: Path, suffix: str, schema: pa.Schema) -> pq.ParquetWriter | pa_csv.CSVWriter:
    if suffix == ".csv":
        return pa_csv.CSVWriter(path, schema)
    # probabilities have few equal values, and dictionaries of them take the longest
    return pq.ParquetWriter(path, schema, use_dictionary=False)
