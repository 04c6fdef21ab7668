"""Tables of other libraries as Arrow tables, and what their columns may be."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.types import is_object_dtype

from domain_experts.data.log.files import form
from domain_experts.data.log.spec import Columns
from domain_experts.errors import UserError
from domain_experts.params import validated
from domain_experts.suggest import unknown

Domain = str | Mapping[str, Any]
"""A column, or the keys of `DomainColumn`."""
Fields = Sequence[str] | Mapping[str, Mapping[str, Any]]
"""Columns, or field -> keys of `IdField`."""
Dense = Sequence[str | Mapping[str, Any]]
"""Columns, or the keys of `DenseColumn` of each."""


def is_table(rows: Any) -> bool:
    """Whether rows have named columns: of pandas, Polars, pyarrow, or any that exports Arrow."""
    return isinstance(rows, pd.DataFrame | pa.RecordBatch) or hasattr(rows, "__arrow_c_stream__")


def as_table(rows: Any) -> pa.Table:
    """Rows as an Arrow table.

    Columns of Python objects become what all their values are, else texts.

    Args:
        rows: a table of which `is_table` is true, or an array (N, P), whose columns are named x0,
            x1, and so on.

    Raises:
        UserError: two columns have one name, or the rows are no table.
    """
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        rows = pd.DataFrame(rows, columns=[f"x{j}" for j in range(rows.shape[1])])
    if not is_table(rows):
        raise UserError(
            f"rows are a {type(rows).__name__}: give a table of pandas, Polars or pyarrow, or an "
            "array of two dimensions"
        )
    named = getattr(rows, "columns", None) if isinstance(rows, pd.DataFrame) else None
    names = list(map(str, named)) if named is not None else pa.table(rows).column_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"column '{twice[0]}' is there more than once; rename one")
    if isinstance(rows, pd.DataFrame):
        rows = rows.infer_objects()
        objects = [name for name, kind in rows.dtypes.items() if is_object_dtype(kind)]
        rows = rows.assign(**{name: _texts(rows[name]) for name in objects})
        return pa.Table.from_pandas(rows, preserve_index=False)
    table = pa.table(rows)
    return table.cast(pa.schema([field.with_type(_plain(field.type)) for field in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type whose values Arrow's functions take: few take views of texts, as Polars has them."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_dictionary(kind):
        return pa.dictionary(pa.int32(), _plain(kind.value_type))
    return kind


def _texts(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """A column of objects that Arrow has a type for, else their texts."""
    try:
        pa.array(column, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return column.map(str, na_action="ignore")
    return column


def columns_of(
    table: pa.Table,
    domain: Domain,
    fields: Fields | None,
    dense: Dense | None,
    tasks: Mapping[str, str],
) -> Columns:
    """What the columns of a table are; what is not said is guessed from the types.

    Floats are dense; texts, booleans, integers, categories and lists are fields, and so is the
    domain.

    Args:
        table: the features, the domain among them.
        domain: which domain a row is of.
        fields: what are fields, whatever their types.
        dense: what are numbers.
        tasks: task to its column, or a condition; no column of the table.

    Raises:
        UserError: a name is no column, one is both, or a column's type says neither.
    """
    said: dict[str, Any] = {"domain": domain if isinstance(domain, str) else dict(domain)}
    of_fields = _settings_by_field(fields)
    of_dense = [{"column": d} if isinstance(d, str) else dict(d) for d in dense or ()]
    named = {name: of.get("column") or name for name, of in of_fields.items()}
    numbers = [of.get("column") for of in of_dense]
    names = table.column_names
    at = domain if isinstance(domain, str) else domain.get("column", "")
    for what, column in (
        ("domain", at),
        *(("fields", column) for column in named.values()),
        *(("dense", column) for column in numbers),
    ):
        if column not in names:
            raise UserError(f"{what}: {unknown('column', str(column), names)}")
    if both := sorted({*named.values()} & {*numbers}):
        raise UserError(f"column '{both[0]}' is named under `fields` and under `dense`; choose one")
    for column in names:
        if column in named.values() or column in numbers:
            continue
        kind = form(table.schema.field(column).type)
        if column != at and _is_real(table.schema.field(column).type):
            of_dense.append({"column": column})
        elif kind in ("text", "number", "bool"):
            of_fields[column] = {}
        elif kind in ("list of text", "list of number"):
            of_fields[column] = {"multi": "|"}
        else:
            raise UserError(
                f"column '{column}' is {kind}, neither ids nor numbers: make a number or a text "
                "of it, or leave it out"
            )
    said |= {"fields": of_fields, "dense": of_dense, "tasks": dict(tasks)}
    return validated(Columns, said, "fit(domain, fields, dense)")


def _settings_by_field(fields: Fields | None) -> dict[str, dict[str, Any]]:
    if isinstance(fields, Mapping):
        return {name: dict(settings) for name, settings in fields.items()}
    if isinstance(fields, str):
        raise UserError("fields: give a list of columns, or a mapping from field to settings")
    return {name: {} for name in fields or ()}


def _is_real(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def as_labels(y: Any) -> dict[str, Any]:
    """Task -> its labels, as they are, of labels (N,) or (N, T)."""
    if hasattr(y, "columns"):
        y = y if isinstance(y, pd.DataFrame) else as_table(y).to_pandas()
        return {str(name): y[name].to_numpy() for name in y.columns}
    name = getattr(y, "name", None)
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] > 1:
        return {f"label{t}": labels for t, labels in enumerate(array.T)}
    return {"label" if name is None else str(name): array}
