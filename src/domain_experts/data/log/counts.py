"""How often each id occurs, merged over blocks."""

import pyarrow as pa
import pyarrow.compute as pc

_PENDING = 2_000_000


class Counts:
    """Counts of ids; new ones are merged in when they are as many as those known."""

    def __init__(self) -> None:
        self._merged: pa.Table | None = None
        self._new: list[pa.Table] = []
        self._waiting = 0

    def add(self, values: pa.Array) -> None:
        """Count ids; nulls are none."""
        found = pc.value_counts(values.drop_null())
        if len(found) == 0:
            return
        self._new.append(
            pa.table({"id": found.field("values"), "count": found.field("counts").cast(pa.int64())})
        )
        self._waiting += len(found)
        known = 0 if self._merged is None else len(self._merged)
        if self._waiting > max(_PENDING, known):
            self._merge()

    def table(self) -> pa.Table:
        """Columns `id` and `count`: most frequent first, equals by id."""
        self._merge()
        if self._merged is None:
            return pa.table({"id": pa.array([], pa.string()), "count": pa.array([], pa.int64())})
        return self._merged.sort_by([("count", "descending"), ("id", "ascending")])

    def _merge(self) -> None:
        if self._new:
            parts = [*([] if self._merged is None else [self._merged]), *self._new]
            grouped = pa.concat_tables(parts).group_by("id").aggregate([("count", "sum")])
            self._merged = grouped.rename_columns(["id", "count"]).combine_chunks()
            self._new, self._waiting = [], 0
