"""Interactions written as they come, never all in memory; the files are those of `write`."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow.parquet as pq

from domain_experts.data.interactions import RECORD, Interactions, describe, record

_TIME = "time"
_BYTES = 1 << 24


class Writer:
    """Appends rows to the arrays and to the Parquet record in a folder.

    Args:
        folder: An empty folder.
        rows: How many there will be.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder = folder
        self.rows = rows
        self._written = 0
        self._files: dict[str, BinaryIO] = {}
        self._shapes: dict[str, dict[str, Any]] = {}
        self._record: pq.ParquetWriter | None = None
        self._kind: Interactions | None = None
        self._by_domain = np.zeros(0, np.int64)
        self._positives = np.zeros((0, 0), np.int64)

    def append(self, part: Interactions) -> None:
        """Append rows; all parts have the same arrays."""
        if self._kind is None:
            self._begin(part)
        assert self._record is not None
        for name, array in part.arrays.items():
            self._files[name].write(np.ascontiguousarray(array).data)
        self._record.write_table(record(part))
        domains = len(part.schema.domains)
        self._by_domain += np.bincount(part.domain, minlength=domains)
        for j in range(len(part.schema.tasks)):
            mine = part.domain[part.labels[:, j] == 1]
            self._positives[j] += np.bincount(mine, minlength=domains)
        self._written += len(part.domain)

    def _begin(self, part: Interactions) -> None:
        schema = part.schema
        self._by_domain = np.zeros(len(schema.domains), np.int64)
        self._positives = np.zeros((len(schema.tasks), len(schema.domains)), np.int64)
        for name, array in part.arrays.items():
            file = (self.folder / f"{name}.npy").open("wb")
            shape = (self.rows, *array.shape[1:])
            header = {
                "descr": np.lib.format.dtype_to_descr(array.dtype),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            self._files[name] = file
            self._shapes[name] = {"dtype": str(array.dtype), "shape": list(shape)}
        self._record = pq.ParquetWriter(
            self.folder / RECORD, record(part).schema, use_dictionary=False
        )
        # of the first part only what is no row is kept
        none: dict[str, Any] = {n: a[:0] for n, a in part.arrays.items()}
        self._kind = replace(part, **none)

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays."""
        return tuple(self._files)

    def flush(self) -> None:
        """Make what was appended readable."""
        for file in self._files.values():
            file.flush()

    def finish(self) -> dict[str, Any]:
        """Close the files; what their card says of the rows.

        Raises:
            ValueError: other than the announced number of rows came.
        """
        if self._written != self.rows or self._kind is None or self._record is None:
            raise ValueError(f"{self._written} rows were written, {self.rows} announced")
        self._record.close()
        for file in self._files.values():
            file.close()
        schema = self._kind.schema
        shapes = {name: shape for name, shape in self._shapes.items() if name != _TIME}
        description = describe(self._kind, shapes)
        content = self._digest(description, shapes)
        if _TIME in self._shapes:
            description[_TIME] = self._digest({}, {_TIME: None})
        return description | {
            "arrays": self._shapes,
            "rows": self.rows,
            "rows_by_domain": self._by_domain.tolist(),
            "positives_by_domain": {
                task: self._positives[j].tolist() for j, task in enumerate(schema.tasks)
            },
            "content": content,
        }

    def _digest(self, description: Mapping[str, Any], names: Mapping[str, Any]) -> str:
        digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
        for name in names:
            for part in _content(self.folder / f"{name}.npy"):
                digest.update(part)
        return digest.hexdigest()


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while part := file.read(_BYTES):
            yield part


def parts(path: Path, rows: int) -> Iterator[np.ndarray]:
    """The array of an .npy file, `rows` at a time, without keeping it in memory."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        width = int(np.prod(shape[1:], dtype=np.int64))
        for start in range(0, shape[0], rows):
            n = min(rows, shape[0] - start)
            yield np.fromfile(file, dtype, n * width).reshape(n, *shape[1:])
