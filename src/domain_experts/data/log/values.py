"""Columns of a log as arrays: ids as 64-bit keys, numbers, labels, moments."""

import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from domain_experts.data.log.files import Block, form
from domain_experts.data.log.spec import CONDITION
from domain_experts.errors import UserError

Kind = Literal["integer", "text"]
_FEW = 4096
_MICRO = 1_000_000
_COMPUTED = {pa.float16(): pa.float32(), pa.string_view(): pa.string()}
_MISSING = pa.array(["NA", "N/A", "NaN", "nan", "null", "NULL", "None"])
_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def kind_of(kind: pa.DataType) -> Kind:
    """How ids of a column are kept: 64-bit integers, or text for all else."""
    if pa.types.is_dictionary(kind) or form(kind).startswith("list of "):
        return kind_of(kind.value_type)
    return "integer" if form(kind) == "number" and kind != pa.uint64() else "text"


def common_kind(types: Sequence[pa.DataType]) -> Kind:
    """How ids of a column are kept that has these types in several files."""
    kinds = {kind_of(found) for found in types if not pa.types.is_null(found)}
    return "integer" if kinds == {"integer"} else "text"


def plain(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """One array without a dictionary, of a type that pyarrow can compute with."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    return array.cast(_COMPUTED[array.type]) if array.type in _COMPUTED else array


@contextmanager
def naming(column: str, file: object = None) -> Iterator[None]:
    """Turn what pyarrow says of a column's type or values into an error that names the column.

    Raises:
        UserError: names file, if given, and column.
    """
    try:
        yield
    except pa.ArrowException as error:
        where = f"{file}: " if file else ""
        reason = str(error).splitlines()[0]
        raise UserError(f"{where}column '{column}' cannot be used so ({reason})") from None


def ids(column: pa.ChunkedArray | pa.Array, kind: Kind) -> pa.Array:
    """Ids as int64 or string; null where there is none, or none of this kind.

    Whole floats are integers: pandas makes them of integers where some are missing.
    """
    array = plain(column)
    if pa.types.is_floating(array.type):
        whole = pc.equal(pc.floor(array), array)
        fits = pc.and_(whole, pc.less(pc.abs(array), 2.0**63))
        integers = pc.if_else(fits, array, None).cast(pa.int64())
        if kind == "integer":
            return integers
        return pc.coalesce(integers.cast(pa.string()), array.cast(pa.string()))
    if kind == "text":
        return array if array.type == pa.string() else array.cast(pa.string())
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64(), safe=array.type != pa.uint64())
    text = array.cast(pa.string())
    number = pc.match_substring_regex(text, r"^-?[0-9]{1,18}$")
    return pc.if_else(number, text, None).cast(pa.int64())


def keys(values: pa.Array) -> np.ndarray:
    """(N,) uint64 hashes of ids, the same on every machine; those of nulls mean nothing.

    Integers never collide; texts are hashed by SipHash (`pandas.util.hash_array`).
    """
    if values.type == pa.int64():
        return pd.util.hash_array(values.fill_null(0).to_numpy())
    few = values.slice(0, _FEW)
    if len(values) > _FEW and pc.count_distinct(few).as_py() < len(few) // 2:
        coded = values.dictionary_encode()
        table = _text_keys(coded.dictionary)
        return table[coded.indices.fill_null(0).to_numpy()] if len(table) else _nothing(values)
    return _text_keys(values)


def _text_keys(values: pa.Array) -> np.ndarray:
    texts = values.fill_null("").to_numpy(zero_copy_only=False)
    return pd.util.hash_array(texts, categorize=False)


def _nothing(values: pa.Array) -> np.ndarray:
    return np.zeros(len(values), np.uint64)


def present(values: pa.Array) -> np.ndarray:
    """(N,) bool: where there is a value."""
    return np.asarray(values.is_valid().to_numpy(zero_copy_only=False))


def numbers(block: Block, name: str) -> np.ndarray:
    """(N,) float64, not a number where it is missing.

    Raises:
        UserError: a text that is no number; names file and row.
    """
    with naming(name, block.file):
        return _numbers(block, name)


def _numbers(block: Block, name: str) -> np.ndarray:
    array = plain(block.table[name])
    if form(array.type) == "text":
        array = pc.if_else(pc.is_in(array, value_set=_MISSING.cast(array.type)), None, array)
        number = pc.match_substring_regex(
            array, r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
        )
        refuse(block, name, pc.invert(number).fill_null(False), array, "no number")
        array = pc.utf8_trim_whitespace(array)
    try:
        found = array.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(f"{block.file}: column '{name}' is {array.type}, no number") from None
    return np.asarray(found.to_numpy(zero_copy_only=False), np.float64)


def labels(block: Block, of: str, task: str) -> np.ndarray:
    """(N,) uint8 of a column of 0 and 1, or of a condition.

    Raises:
        UserError: a value is missing, or neither 0 nor 1; names file and row.
    """
    name, condition = column_of(of, block.table.column_names)
    with naming(name, block.file):
        return _labels(block, of, task, name, condition)


def _labels(
    block: Block, of: str, task: str, name: str, condition: tuple[str, str] | None
) -> np.ndarray:
    array = plain(block.table[name])
    where = f"task '{task}'"
    refuse(block, name, array.is_null(), array, f"no value, but {where} needs one")
    if condition is None:
        array = pc.utf8_lower(array) if form(array.type) == "text" else array
        if form(array.type) == "text":
            true = pc.is_in(array, value_set=pa.array(["1", "true", "1.0"]))
            false = pc.is_in(array, value_set=pa.array(["0", "false", "0.0"]))
        elif pa.types.is_boolean(array.type):
            true, false = array, pc.invert(array)
        elif form(array.type) == "number":
            true, false = pc.equal(array, 1), pc.equal(array, 0)
        else:
            raise UserError(f"{block.file}: {where}: column '{name}' is {array.type}, not 0 and 1")
        wrong = pc.invert(pc.or_(true, false))
        refuse(block, name, wrong, array, f"a label of {where} is 0 or 1; or give a condition")
        return _bytes(true)
    relation, value = condition
    try:
        bound = float(value)
    except ValueError:
        if relation not in ("==", "!="):
            raise UserError(f"{where}: '{of}' compares with no number") from None
        text = array.cast(pa.string())
        same = pc.equal(text, value.strip("'\""))
        return _bytes(same if relation == "==" else pc.invert(same))
    found = numbers(block, name)
    refuse(block, name, pa.array(np.isnan(found)), array, f"no value, but {where} needs one")
    return np.asarray(_RELATIONS[relation](found, bound)).astype(np.uint8)


def column_of(of: str, known: Sequence[str]) -> tuple[str, tuple[str, str] | None]:
    """Column of a task, and relation and value where it is a condition."""
    match = None if of in known else CONDITION.fullmatch(of)
    return (of, None) if match is None else (match["column"], (match["relation"], match["value"]))


class Moments:
    """A column of moments as int64: integers as they are, all else in microseconds.

    What the first rows are, the others must be, too: else units would mix.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._text: pa.DataType | None = None

    def __call__(self, block: Block) -> np.ndarray:
        """(N,) int64.

        Raises:
            UserError: a value is missing or no moment; names file and row.
        """
        with naming(self.name, block.file):
            array = plain(block.table[self.name])
            why = "no moment; `time` needs one in each row"
            refuse(block, self.name, array.is_null(), array, why)
            return np.asarray(self._parsed(block, array).to_numpy())

    def _parsed(self, block: Block, array: pa.Array) -> pa.Array:
        kind = array.type
        if pa.types.is_integer(kind):
            return array.cast(pa.int64())
        if pa.types.is_floating(kind):
            with np.errstate(over="ignore"):
                # what is beyond all numbers is no moment
                micro = np.round(array.to_numpy() * _MICRO)
            wrong = pa.array(~(np.abs(micro) < 2.0**63))
            refuse(block, self.name, wrong, array, "no moment; write integers or timestamps")
            return pa.array(micro.astype(np.int64))
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            unit = pa.timestamp("us", kind.tz if pa.types.is_timestamp(kind) else None)
            return array.cast(unit, safe=False).cast(pa.int64())
        if form(kind) != "text":
            raise UserError(f"{block.file}: column '{self.name}' is {kind}, no time")
        if self._text is None:
            self._text = _form_of_time(array[0].as_py())
        try:
            return array.cast(self._text).cast(pa.int64())
        except pa.ArrowInvalid:
            row = next(i for i in range(len(array)) if not _casts(array[i : i + 1], self._text))
            raise UserError(
                f"{block.where(row)}: column '{self.name}' holds '{array[row]}', no time; write "
                "integers, or ISO 8601 as in 2024-05-31 23:59:59, in one form throughout"
            ) from None


def _form_of_time(text: str) -> pa.DataType:
    for kind in (pa.int64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        if _casts(pa.array([text]), kind):
            return kind
    return pa.timestamp("us")


def _casts(array: pa.Array, kind: pa.DataType) -> bool:
    try:
        array.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _bytes(flags: pa.Array) -> np.ndarray:
    return np.asarray(flags.to_numpy(zero_copy_only=False)).astype(np.uint8)


def refuse(block: Block, name: str, wrong: pa.Array, values: pa.Array, why: str) -> None:
    """Refuse rows of a column.

    Raises:
        UserError: some are wrong; names the file, the first such row and its value.
    """
    flags = np.asarray(wrong.to_numpy(zero_copy_only=False)).astype(bool)
    if flags.any():
        row = int(flags.argmax())
        found = values[row].as_py()
        holds = "" if found is None else f" holds {found!r}:"
        raise UserError(f"{block.where(row)}: column '{name}'{holds} {why}")


def texts(block: Block, name: str, use: str) -> pa.Array:
    """Names, as text.

    Raises:
        UserError: one is missing; names file and row.
    """
    with naming(name, block.file):
        found = ids(block.table[name], "text")
        empty = pc.equal(found, "").fill_null(True)
        refuse(block, name, empty, found, f"no value, but {use} needs one")
        return found
