"""Attributes of users and items as fields of rows."""

from collections.abc import Mapping

import numpy as np


def compact(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the values that occur from 0, in their own order.

    Returns:
        (n,) int32 codes, and how many there are.
    """
    values, code = np.unique(codes, return_inverse=True)
    return code.astype(np.int32), len(values)


def of_rows(
    name: str, keys: np.ndarray, attributes: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, int]]:
    """An id and its attributes as fields of N rows; a code is given only to what a row has.

    Args:
        name: Name of the id's own field.
        keys: (N,) number of each row's id in the attribute tables.
        attributes: Name -> (U,) values by id; equal values get one code.

    Returns:
        Name -> (N,) int32 codes and their number, the id first.
    """
    used, position = np.unique(keys, return_inverse=True)
    fields = {name: (position.astype(np.int32), len(used))}
    for attribute, values in attributes.items():
        codes, size = compact(values[used])
        fields[attribute] = codes[position], size
    return fields


def min_max(values: np.ndarray) -> np.ndarray:
    """Scale finite numbers to [0, 1]; a constant becomes 0.

    Returns:
        float32 of the same shape.
    """
    low, high = values.min(), values.max()
    return np.asarray((values - low) / ((high - low) or 1), np.float32)
