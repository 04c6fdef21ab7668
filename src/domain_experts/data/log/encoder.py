"""Encoder: columns of a log to codes and numbers, in training and in scoring alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import AfterValidator, Field

from domain_experts.data.log import values
from domain_experts.data.log.files import Block, form
from domain_experts.data.log.spec import (
    NONE,
    OTHER_DOMAIN,
    POOLED_RARE,
    Columns,
    DenseColumn,
    IdField,
)
from domain_experts.errors import UserError
from domain_experts.files import replacing, write_json
from domain_experts.schema import Schema
from domain_experts.strict import Settings, distinct
from domain_experts.suggest import unknown

RECORD = "encoder.json"
VERSION = 1
UNKNOWN = -1
"""Domain of a row whose own no training row had, where there is no common one for such."""
_ORDERED = ("fields", "history", "tasks")
_GIVEN = Path("the table")


@dataclass(frozen=True)
class Encoded:
    """Rows as a model reads them."""

    fields: np.ndarray
    """(N, C) int32, as `Interactions.fields`."""
    dense: np.ndarray
    """(N, K) float32, standardised."""
    domain: np.ndarray
    """(N,) int16, -1 unknown."""
    labels: np.ndarray | None
    """(N, T) uint8, where the rows have them."""


@dataclass(frozen=True)
class Vocabulary:
    """The ids of a field, (V,) by code, and their (V,) training rows; none if it is hashed."""

    kind: values.Kind
    ids: pa.Array
    counts: np.ndarray

    @cached_property
    def _index(self) -> "pd.Index[Any]":
        index: pd.Index[Any] = pd.Index(values.keys(self.ids))
        return index

    def places(self, found: pa.Array) -> np.ndarray:
        """(N,) int64 places of ids, -1 for unknown ones and nulls."""
        place = self._index.get_indexer(pd.Index(values.keys(found)))
        return place if found.null_count == 0 else np.where(values.present(found), place, -1)


class _Record(Settings):
    """encoder.json."""

    version: int
    columns: dict[str, Any]
    order: dict[str, tuple[str, ...]]
    domains: Annotated[tuple[str, ...], AfterValidator(distinct), Field(min_length=1)]
    kinds: dict[str, values.Kind]
    means: tuple[float, ...]
    deviations: tuple[Annotated[float, Field(gt=0)], ...]
    constants: dict[str, str]

    def ordered(self) -> Columns:
        """The columns, the fields, tasks and histories in the order of their codes.

        Raises:
            ValueError: a part does not fit the others.
        """
        inner = {
            name: {key: self.columns[name][key] for key in self.order[name]} for name in _ORDERED
        }
        columns = Columns.model_validate(self.columns | inner)
        if columns.fields.keys() != self.kinds.keys():
            raise ValueError("`kinds` are not those of the fields")
        if not len(self.means) == len(self.deviations) == len(columns.dense):
            raise ValueError("`means` and `deviations` are not those of the dense columns")
        return columns


@dataclass(frozen=True)
class Encoder:
    """Vocabularies, domains, and means and deviations of dense columns, of training rows alone."""

    columns: Columns
    domains: tuple[str, ...]
    vocabularies: Mapping[str, Vocabulary]
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    """Columns that rows do not bring, and the text that all of them have there."""

    @property
    def single(self) -> tuple[str, ...]:
        """Fields of one id a row."""
        return tuple(name for name, of in self.columns.fields.items() if of.multi is None)

    @property
    def pooled(self) -> dict[str, tuple[str, int]]:
        """Fields of several ids a row -> the field whose vocabulary they read, and their width."""
        several = {n: (n, of.most) for n, of in self.columns.fields.items() if of.multi is not None}
        return several | {name: (h.of, h.last) for name, h in self.columns.history.items()}

    @property
    def schema(self) -> Schema:
        """What a model needs to know of the rows."""
        sizes = [(name, self._ids(name) + 1) for name in self.single]
        pooled = [(name, self._ids(of) + 2) for name, (of, _) in self.pooled.items()]
        widths = [1] * len(sizes) + [width for _, width in self.pooled.values()]
        return Schema(
            fields=(*sizes, *pooled),
            dense=tuple(dense.column for dense in self.columns.dense),
            domains=self.domains,
            tasks=tuple(self.columns.tasks),
            widths=tuple(widths) if pooled else (),
        )

    def _ids(self, name: str) -> int:
        return self.columns.fields[name].hash or len(self.vocabularies[name].ids)

    def encode(self, table: pa.Table | pa.RecordBatch) -> Encoded:
        """Encode rows; a history is a list column of its name, latest item first.

        Raises:
            UserError: a column is missing or does not fit.
        """
        rows = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        rows = with_constants(rows, self.constants)
        block = Block(_GIVEN, 0, rows)
        named = rows.column_names
        wanted = [of.column or name for name, of in self.columns.fields.items()]
        wanted += [self.columns.domain.column, *(d.column for d in self.columns.dense)]
        for column in (*wanted, *self.columns.history):
            if column not in named:
                raise UserError(unknown("column", column, named))
        labelled = all(
            values.column_of(of, named)[0] in named for of in self.columns.tasks.values()
        )
        histories = [self._lists(rows[n], of, width) for n, (of, width) in self._histories]
        return Encoded(
            fields=np.concatenate([self.codes(rows), *histories], axis=1),
            dense=self.dense(block),
            domain=self.domain(rows),
            labels=self.labels(block) if labelled else None,
        )

    @property
    def _histories(self) -> list[tuple[str, tuple[str, int]]]:
        return [(n, at) for n, at in self.pooled.items() if n in self.columns.history]

    def codes(self, table: pa.Table) -> np.ndarray:
        """(N, C) int32 codes of all fields but histories."""
        singles = [self.one(table[self._column(n)], n)[:, None] for n in self.single]
        several = [
            self._lists(table[self._column(name)], of, width)
            for name, (of, width) in self.pooled.items()
            if name not in self.columns.history
        ]
        parts = [*singles, *several]
        return np.concatenate(parts, axis=1, dtype=np.int32, casting="unsafe")

    def _column(self, name: str) -> str:
        return self.columns.fields[name].column or name

    def one(self, column: pa.ChunkedArray, name: str) -> np.ndarray:
        """(N,) int64 codes of a field of one id a row."""
        with values.naming(self._column(name)):
            return self._places(values.plain(column), name) + 1

    def _places(self, array: pa.Array, name: str) -> np.ndarray:
        """(N,) int64 places of ids in the field's vocabulary or table, -1 for none."""
        vocabulary = self.vocabularies[name]
        found = values.ids(array, vocabulary.kind)
        size = self.columns.fields[name].hash
        if size is None:
            return vocabulary.places(found)
        place = (values.keys(found) % np.uint64(size)).astype(np.int64)
        return np.where(values.present(found), place, -1)

    def _lists(self, column: pa.ChunkedArray, name: str, width: int) -> np.ndarray:
        with values.naming(self._column(name)):
            lists = split_ids(values.plain(column), self.columns.fields[name])
            flat = lists.flatten()
            codes = self._places(flat, name) + POOLED_RARE + 1
        codes[~values.present(flat)] = NONE
        lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
        row = np.repeat(np.arange(len(lists)), lengths)
        place = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = place < width
        found = np.full((len(lists), width), NONE, np.int32)
        found[row[kept], place[kept]] = codes[kept]
        return found

    def dense(self, block: Block) -> np.ndarray:
        """(N, K) float32, standardised; a missing value is the mean."""
        found = np.empty((block.table.num_rows, len(self.columns.dense)), np.float32)
        for j, (of, mean, deviation) in enumerate(
            zip(self.columns.dense, self.means, self.deviations, strict=True)
        ):
            with np.errstate(over="ignore"):
                column = (transformed(block, of) - mean) / deviation
            _refuse_large(block, of.column, column)
            found[:, j] = np.where(np.isnan(column), 0, column)
        return found

    def domain(self, table: pa.Table) -> np.ndarray:
        """(N,) int16; what no training row had is the common domain, or -1."""
        with values.naming(self.columns.domain.column):
            names = values.ids(table[self.columns.domain.column], "text")
        other = self.domains.index(OTHER_DOMAIN) if OTHER_DOMAIN in self.domains else UNKNOWN
        place = pc.index_in(names, value_set=pa.array(self.domains)).fill_null(other)
        return np.asarray(place.to_numpy(zero_copy_only=False)).astype(np.int16)

    def labels(self, block: Block) -> np.ndarray:
        """(N, T) uint8."""
        tasks = self.columns.tasks.items()
        return np.stack([values.labels(block, of, task) for task, of in tasks], axis=1)

    def save(self, folder: Path) -> None:
        """Write the record and one Parquet file a vocabulary."""
        for name, vocabulary in self.vocabularies.items():
            if self.columns.fields[name].hash is None:
                counts = pa.array(vocabulary.counts, pa.int64())
                with replacing(folder / f"{name}.parquet") as temporary:
                    pq.write_table(pa.table({"id": vocabulary.ids, "count": counts}), temporary)
        write_json(
            folder / RECORD,
            {
                "version": VERSION,
                "columns": self.columns.model_dump(mode="json"),
                # JSON is written with sorted keys, but codes lie side by side in this order
                "order": {name: list(getattr(self.columns, name)) for name in _ORDERED},
                "domains": list(self.domains),
                "kinds": {name: of.kind for name, of in self.vocabularies.items()},
                "means": list(self.means),
                "deviations": list(self.deviations),
                "constants": dict(self.constants),
            },
        )

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: a part is missing or damaged.
        """
        path = folder / RECORD
        try:
            record = _Record.model_validate_json(path.read_bytes())
            if record.version != VERSION:
                raise UserError(f"{path} is of version {record.version}, not {VERSION}")
            columns = record.ordered()
            found = {}
            for name, kind in record.kinds.items():
                path = folder / f"{name}.parquet"
                table = None if columns.fields[name].hash else pq.read_table(path)
                found[name] = _vocabulary(kind, table)
                _refuse_no_vocabulary(found[name])
            return cls(
                columns=columns,
                domains=record.domains,
                vocabularies=found,
                means=record.means,
                deviations=record.deviations,
                constants=record.constants,
            )
        except FileNotFoundError:
            raise UserError(
                f"{path} is missing; prepare the data, or save the model, again"
            ) from None
        except (KeyError, ValueError, OSError, pa.ArrowException) as error:
            raise UserError(f"{path} is damaged ({error}); make it again") from None


def with_constants(table: pa.Table, constants: Mapping[str, str]) -> pa.Table:
    """The rows with columns that hold one text throughout."""
    for name, text in constants.items():
        table = table.append_column(name, pa.repeat(pa.scalar(text), len(table)))
    return table


def _vocabulary(kind: values.Kind, table: pa.Table | None) -> Vocabulary:
    """A vocabulary of columns `id` and `count`, or an empty one of a hashed field."""
    of = pa.int64() if kind == "integer" else pa.string()
    if table is None or len(table) == 0:
        return Vocabulary(kind, pa.array([], of), np.zeros(0, np.int64))
    return Vocabulary(kind, values.plain(table["id"]).cast(of), table["count"].to_numpy())


def _refuse_no_vocabulary(made: Vocabulary) -> None:
    ids, counts = made.ids, made.counts
    if ids.null_count or counts.dtype != np.int64 or pc.count_distinct(ids).as_py() < len(ids):
        raise ValueError("it does not hold each id once, with a count")


def vocabulary(kind: values.Kind, counts: pa.Table, min_count: int, trained: bool) -> Vocabulary:
    """The ids that occur often enough.

    Args:
        kind: how they are kept.
        counts: columns `id` and `count`, most frequent first.
        min_count: training rows that give an id a row of its own. If it is over 1 and no id is
            rare, the last one is taken for rare: alone there it loses nothing, and unknown ids find
            a row that was trained.
        trained: whether training rows without an id train that row anyway.
    """
    kept = counts.filter(pc.greater_equal(counts["count"], min_count))
    if len(kept) == len(counts) and min_count > 1 and not trained:
        kept = kept.slice(0, max(len(kept) - 1, 0))
    return _vocabulary(kind, kept)


def hashed(kind: values.Kind) -> Vocabulary:
    """The empty vocabulary of a field whose ids are hashed."""
    return _vocabulary(kind, None)


def split_ids(array: pa.Array, of: IdField) -> pa.Array:
    """Lists of ids, of a column of lists or of text with a separator; empty texts are none."""
    if form(array.type).startswith("list of "):
        return array
    lists = pc.split_pattern(array.cast(pa.string()), of.multi or "|")
    flat = lists.flatten()
    flat = pc.utf8_trim_whitespace(flat)
    flat = pc.if_else(pc.equal(flat, ""), None, flat)
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _refuse_large(block: Block, column: str, numbers: np.ndarray) -> None:
    """Refuse numbers that float32 has no room for."""
    wrong = np.abs(numbers) > np.finfo(np.float32).max
    if wrong.any():
        held = values.plain(block.table[column])
        values.refuse(block, column, pa.array(wrong), held, "too large a number; leave it empty")


def transformed(block: Block, of: DenseColumn) -> np.ndarray:
    """(N,) float64 of a dense column before it is standardised; not a number where missing."""
    found = values.numbers(block, of.column)
    found = np.where(np.isinf(found), np.nan, found)
    _refuse_large(block, of.column, found)
    return np.sign(found) * np.log1p(np.abs(found)) if of.transform == "log" else found
