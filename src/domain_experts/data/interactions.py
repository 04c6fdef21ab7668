"""Interactions: one table of rows, whatever the source; Parquet is the record, .npy is opened.

Pretrained embedding tables are no rows, so they are kept as .npy only.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, Field, ValidationError, field_validator

from domain_experts.arrays import read_array
from domain_experts.errors import UserError
from domain_experts.files import beside, check_file, place, read_json, sha256, write_json
from domain_experts.schema import Schema

CARD = "card.json"
RECORD = "interactions.parquet"
CHECKSUMS = "checksums"
"""Key of the card: file -> its SHA-256."""
_VECTORS = "vectors-"
_USER = "user"
_TIME = "time"
_NEEDED = ("fields", "dense", "labels", "domain")
_ARRAYS = rf"^({'|'.join(_NEEDED)}|truth|time|given_split|weight|{_VECTORS}[^/\\]+)$"


class _Array(BaseModel):
    """Type and shape of an array in a card."""

    dtype: str
    shape: tuple[int, ...]


class _Field(BaseModel):
    """A field in a card."""

    name: str
    size: int


class _Card(BaseModel):
    """What is read of a card."""

    arrays: dict[Annotated[str, Field(pattern=_ARRAYS)], _Array]
    fields: tuple[_Field, ...]
    dense: tuple[str, ...]
    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    planted_groups: tuple[int, ...] | None
    widths: tuple[int, ...] = ()
    rows: int
    content: str
    checksums: dict[str, str] = {}

    @field_validator("arrays")
    @classmethod
    def _has_all(cls, arrays: dict[str, _Array]) -> dict[str, _Array]:
        if lacking := sorted({*_NEEDED} - arrays.keys()):
            raise ValueError(f"{lacking[0]} is missing")
        return arrays


@dataclass(frozen=True)
class Interactions:
    """Rows of a multi-domain, multi-task data set."""

    schema: Schema
    fields: np.ndarray
    """(N, C) int32 codes: the fields' columns side by side, of field j in [0, schema.sizes[j])."""
    dense: np.ndarray
    """(N, K) float32."""
    labels: np.ndarray
    """(N, T) uint8, 0 or 1."""
    domain: np.ndarray
    """(N,) int16, in [0, D)."""
    truth: np.ndarray | None = None
    """(N,) float32 true probability of a positive label, (N, T) of several tasks; generated data
    only."""
    planted_groups: tuple[int, ...] | None = None
    """Planted group of each domain; generated data only."""
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Field -> (size, dim) float32, its pretrained embedding table; one width for all."""
    time: np.ndarray | None = None
    """(N,) int64 moment of each row, in the source's own unit, where it has one; no feature."""
    given_split: np.ndarray | None = None
    """(N,) uint8, 0 train, 1 validation, 2 test, where a split came with the data."""
    weight: np.ndarray | None = None
    """(N,) float32, at least 0: what a row counts in the training loss, where rows differ."""
    sampled_negatives: bool = False
    """Whether the rows with label 0 were drawn for each user and domain (`data.sampling`)."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What `write` recorded; empty before that."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open what `write` wrote, memory-mapped.

        Raises:
            UserError: a file is missing, damaged, or does not fit the card.
        """
        path, remedy = folder / CARD, prepare_again(folder)
        card = read_json(path, remedy)
        try:
            _Card.model_validate(card)
        except ValidationError as error:
            where = ".".join(map(str, error.errors()[0]["loc"]))
            said = f"{where}: {error.errors()[0]['msg']}"
            raise UserError(f"{path} is no card of a data set ({said}); {remedy}") from None
        check_parts(folder, card, (f"{name}.npy" for name in card["arrays"]))
        arrays = {}
        for name, expected in card["arrays"].items():
            file = folder / f"{name}.npy"
            array = read_array(file, remedy, mapped=True)
            found = _shape(array)
            if found != expected:
                raise UserError(
                    f"{file} does not fit {path}: it holds {found['dtype']} {found['shape']}, "
                    f"expected {expected['dtype']} {expected['shape']}; {remedy}"
                )
            arrays[name] = array
        groups = card["planted_groups"]
        vectors = {
            name.removeprefix(_VECTORS): arrays.pop(name)
            for name in list(arrays)
            if name.startswith(_VECTORS)
        }
        return cls(
            schema=Schema(
                fields=tuple((item["name"], item["size"]) for item in card["fields"]),
                dense=tuple(card["dense"]),
                domains=tuple(card["domains"]),
                tasks=tuple(card["tasks"]),
                widths=tuple(card.get("widths", ())),
            ),
            planted_groups=None if groups is None else tuple(groups),
            vectors=vectors,
            sampled_negatives=card.get("sampled_negatives", False),
            card=card,
            **arrays,
        )

    @property
    def user(self) -> np.ndarray | None:
        """(N,) int32 codes of the field named `user`, where there is one."""
        names = [name for name, _ in self.schema.single]
        return self.fields[:, names.index(_USER)] if _USER in names else None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, in a fixed order."""
        arrays = {
            "fields": self.fields,
            "dense": self.dense,
            "labels": self.labels,
            "domain": self.domain,
        }
        if self.truth is not None:
            arrays["truth"] = self.truth
        if self.time is not None:
            arrays[_TIME] = self.time
        if self.given_split is not None:
            arrays["given_split"] = self.given_split
        if self.weight is not None:
            arrays["weight"] = self.weight
        return arrays | {f"{_VECTORS}{name}": self.vectors[name] for name in sorted(self.vectors)}


def write(interactions: Interactions, folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write the Parquet record, the .npy files and, last, the card.

    Args:
        interactions: What to write.
        folder: Its files are replaced; while that goes on there is no card.
        provenance: Where the rows come from; goes into the card as it is.

    Raises:
        UserError: an empty domain, a code out of range, a label other than 0 or 1, a weight below
            0, an embedding table that does not fit its field.
    """
    _refuse_misfits(interactions)
    card = _card(interactions) | {"provenance": dict(provenance)}
    with beside(folder) as new:
        for array_name, array in interactions.arrays.items():
            np.save(new / f"{array_name}.npy", array, allow_pickle=False)
        pq.write_table(record(interactions), new / RECORD)
        install(new, folder, card)


def install(new: Path, folder: Path, card: Mapping[str, Any]) -> None:
    """Replace what a data set's folder holds by the files of `new`; last comes their card."""
    files = {file.relative_to(new) for file in new.rglob("*") if file.is_file()}
    checksums = {file.as_posix(): sha256(new / file) for file in sorted(files)}
    place(new, folder, CARD)
    for stale in sorted(folder.rglob("*"), reverse=True):
        if stale.is_file() and stale.relative_to(folder) not in files:
            stale.unlink()
        elif stale.is_dir() and not any(stale.iterdir()):
            stale.rmdir()
    write_json(folder / CARD, {**card, CHECKSUMS: checksums}, sealed=True)


def check_parts(folder: Path, card: Mapping[str, Any], names: Iterable[str]) -> None:
    """Refuse damaged files of a data set.

    Of a card from before there were checksums, nothing can be said.

    Raises:
        UserError: a file is missing, damaged or not listed.
    """
    for name in names if CHECKSUMS in card else ():
        expected = card[CHECKSUMS].get(name)
        check_file(folder / name, expected, folder / CARD, prepare_again(folder))


def prepare_again(folder: Path) -> str:
    """What mends a data set, in words."""
    return f"run `domain-experts prepare {folder.name}`"


def _refuse_misfits(interactions: Interactions) -> None:
    schema = interactions.schema
    rows, columns = len(interactions.domain), len(schema.domains)
    expected = {
        "fields": {"dtype": "int32", "shape": [rows, schema.columns]},
        "dense": {"dtype": "float32", "shape": [rows, len(schema.dense)]},
        "labels": {"dtype": "uint8", "shape": [rows, len(schema.tasks)]},
        "domain": {"dtype": "int16", "shape": [rows]},
        "truth": {"dtype": "float32", "shape": _truth_shape(rows, len(schema.tasks))},
        _TIME: {"dtype": "int64", "shape": [rows]},
        "given_split": {"dtype": "uint8", "shape": [rows]},
        "weight": {"dtype": "float32", "shape": [rows]},
        **_vector_shapes(interactions),
    }
    for name, array in interactions.arrays.items():
        if _shape(array) != expected[name]:
            raise ValueError(f"{name} is {_shape(array)}, expected {expected[name]}")
    _refuse_range("domain", interactions.domain, columns)
    for j, (name, size) in enumerate(_columns(schema)):
        _refuse_range(f"field '{name}'", interactions.fields[:, j], size)
    for j, name in enumerate(schema.tasks):
        _refuse_range(f"label '{name}'", interactions.labels[:, j], 2)
    if interactions.given_split is not None:
        _refuse_range("given split", interactions.given_split, 3)
    if interactions.weight is not None:
        wrong = ~(np.isfinite(interactions.weight) & (interactions.weight >= 0))
        if wrong.any():
            row = int(wrong.argmax())
            raise UserError(
                f"weight: row {row} holds {interactions.weight[row]}; a weight is 0 or more"
            )
    counts = np.bincount(interactions.domain, minlength=columns)
    empty = [name for name, count in zip(schema.domains, counts, strict=True) if count == 0]
    if empty:
        raise UserError(
            f"domains without rows: {', '.join(empty)}; change the data set's entry in params.yaml "
            "(data.datasets) or complete the raw files"
        )


def _columns(schema: Schema) -> list[tuple[str, int]]:
    """Name and number of codes of the field of each column."""
    return list(np.repeat(np.array(schema.fields, dtype=object), schema.widths or 1, axis=0))


def _truth_shape(rows: int, tasks: int) -> list[int]:
    return [rows] if tasks == 1 else [rows, tasks]


def _vector_shapes(interactions: Interactions) -> dict[str, Any]:
    """What the embedding tables must be; refuses those that fit no field or each other."""
    sizes = dict(interactions.schema.fields)
    widths = {name: table.shape[-1] for name, table in interactions.vectors.items()}
    for name, table in interactions.vectors.items():
        if name not in sizes:
            raise UserError(
                f"pretrained vectors for the unknown field '{name}'; fields are {', '.join(sizes)}"
            )
        if len(table) != sizes[name]:
            raise UserError(
                f"pretrained vectors of field '{name}': {len(table)} rows, but the field has "
                f"{sizes[name]} ids; give one vector per id"
            )
        if not np.isfinite(table).all():
            row = int((~np.isfinite(table).all(axis=1)).argmax())
            raise UserError(f"pretrained vectors of field '{name}': row {row} is not finite")
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{name} {width}" for name, width in sorted(widths.items()))
        raise UserError(f"pretrained vectors differ in width ({found}); all fields need the same")
    return {
        f"{_VECTORS}{name}": {"dtype": "float32", "shape": [sizes[name], width]}
        for name, width in widths.items()
    }


def _refuse_range(name: str, codes: np.ndarray, size: int) -> None:
    wrong = (codes < 0) | (codes >= size)
    if wrong.any():
        row = int(wrong.argmax())
        raise UserError(f"{name}: row {row} holds {codes[row]}, allowed are 0 to {size - 1}")


def record(interactions: Interactions) -> pa.Table:
    """The Parquet record: one column per field, dense feature and label, and the domain.

    That of a pooled field holds lists.
    """
    schema = interactions.schema
    columns = {
        f"field:{name}": interactions.fields[:, j] for j, (name, _) in enumerate(schema.single)
    }
    single = len(columns)
    starts = np.cumsum(schema.widths)[single - 1 :] if schema.widths else ()
    pooled = zip(schema.fields[single:], itertools.pairwise(starts), strict=True)
    for (name, _), (start, end) in pooled:
        codes = np.ascontiguousarray(interactions.fields[:, start:end]).reshape(-1)
        columns[f"field:{name}"] = pa.FixedSizeListArray.from_arrays(codes, end - start)
    columns |= {f"dense:{name}": interactions.dense[:, j] for j, name in enumerate(schema.dense)}
    columns |= {f"label:{name}": interactions.labels[:, j] for j, name in enumerate(schema.tasks)}
    columns["domain"] = interactions.domain
    if interactions.truth is not None and interactions.truth.ndim == 1:
        columns["truth"] = interactions.truth
    elif interactions.truth is not None:
        columns |= {
            f"truth:{name}": interactions.truth[:, j] for j, name in enumerate(schema.tasks)
        }
    if interactions.time is not None:
        columns[_TIME] = interactions.time
    if interactions.given_split is not None:
        columns["given_split"] = interactions.given_split
    if interactions.weight is not None:
        columns["weight"] = interactions.weight
    return pa.table({name: pa.array(column) for name, column in columns.items()})


def _card(interactions: Interactions) -> dict[str, Any]:
    schema, domain = interactions.schema, interactions.domain
    domains = len(schema.domains)
    # Only a split may depend on the time, and it has a digest of its own in a run's key: so the
    # time is no part of the rows' identity, and a corrected one leaves other splits' runs alone.
    arrays = {name: array for name, array in interactions.arrays.items() if name != _TIME}
    description = describe(interactions, {name: _shape(array) for name, array in arrays.items()})
    content = _digest(description, arrays)
    if interactions.time is not None:
        description[_TIME] = _digest({}, {_TIME: interactions.time})
    return description | {
        "arrays": {name: _shape(array) for name, array in interactions.arrays.items()},
        "rows": len(domain),
        "rows_by_domain": np.bincount(domain, minlength=domains).tolist(),
        "positives_by_domain": {
            task: np.bincount(domain[interactions.labels[:, j] == 1], minlength=domains).tolist()
            for j, task in enumerate(schema.tasks)
        },
        "content": content,
    }


def describe(interactions: Interactions, shapes: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows' identity begins with: the schema, and the arrays' types and shapes."""
    schema = interactions.schema
    description = {
        "fields": [{"name": name, "size": size} for name, size in schema.fields],
        "dense": list(schema.dense),
        "domains": list(schema.domains),
        "tasks": list(schema.tasks),
        "planted_groups": None
        if interactions.planted_groups is None
        else list(interactions.planted_groups),
        "arrays": dict(shapes),
    }
    if schema.widths:
        description["widths"] = list(schema.widths)
    if interactions.sampled_negatives:
        description["sampled_negatives"] = True
    return description


def _shape(array: np.ndarray) -> dict[str, Any]:
    return {"dtype": str(array.dtype), "shape": list(array.shape)}


def _digest(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Identity of arrays: it does not depend on where the raw files came from."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for array in arrays.values():
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
