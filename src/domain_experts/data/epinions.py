"""Epinions reader: ratings of items in 27 categories, cleaned; the categories are the domains."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domain_experts.data.interactions import Interactions
from domain_experts.data.matlab import read_matrix
from domain_experts.data.registry import FILE_FORMATS
from domain_experts.errors import UserError
from domain_experts.schema import Schema

if TYPE_CHECKING:
    from domain_experts.data.specs import Epinions

# of the matrix `rating`; helpfulness was given after the rating, so it can be no feature
_USER, _ITEM, _CATEGORY, _RATING, _HELPFULNESS, _TIME = range(6)
_COLUMNS = ("user", "item", "category", "rating", "helpfulness", "time")
_HIGHEST = {_CATEGORY: 27, _RATING: 5}
_CORE = 5


def read(folder: Path, file_format: str) -> np.ndarray:
    """Read the matrix: (N, 6) int64 with user, item, category, rating, helpfulness and time.

    Raises:
        UserError: the file holds no such matrix, or a row does not fit.
    """
    (name,) = FILE_FORMATS[file_format]
    path = folder / name
    try:
        rating = read_matrix(path, "rating")
    except ValueError as error:
        raise UserError(f"{path} is no sound MATLAB file ({error})") from None
    if rating is None:
        raise UserError(f"{path}: holds no variable 'rating'")
    if rating.ndim != 2 or rating.shape[1] != len(_COLUMNS) or len(rating) == 0:
        raise UserError(
            f"{path}: 'rating' has shape {rating.shape}, expected rows of {len(_COLUMNS)} columns "
            f"({', '.join(_COLUMNS)})"
        )
    for column, title in enumerate(_COLUMNS):
        cells = rating[:, column]
        highest = _HIGHEST.get(column, 2**31 - 1)
        # NaN fails each comparison
        wrong = ~((cells >= 1) & (cells <= highest) & (cells == np.floor(cells)))
        if wrong.any():
            row = int(wrong.argmax())
            raise UserError(
                f"{path}, row {row + 1} of 'rating': column {title}: {cells[row]} is no whole "
                f"number in 1..{highest}"
            )
    return np.asarray(rating, np.int64)


def clean(rating: np.ndarray) -> np.ndarray:
    """Leave one row per user and item, and one category per item.

    Exact duplicates go. Of the rows of a user and item the last in (time, file order) stays. An
    item gets the category of most of its remaining rows, the lowest-numbered one of equals.

    Args:
        rating: What `read` returned.

    Returns:
        (N, 6) int64, rows in file order.
    """
    _, first = np.unique(rating, axis=0, return_index=True)
    rating = rating[np.sort(first)]
    pair = rating[:, _USER] << 32 | rating[:, _ITEM]
    order = np.lexsort((rating[:, _TIME], pair))
    last = np.append(pair[order[1:]] != pair[order[:-1]], True)
    rating = rating[np.sort(order[last])]
    items, item = np.unique(rating[:, _ITEM], return_inverse=True)
    categories = rating[:, _CATEGORY].max() + 1
    cell = item * categories + rating[:, _CATEGORY]
    votes = np.bincount(cell, minlength=len(items) * categories).reshape(-1, categories)
    rating[:, _CATEGORY] = votes.argmax(axis=1)[item]
    return rating


def k_core(rating: np.ndarray, k: int) -> np.ndarray:
    """Drop users and items with fewer than k rows, again and again until none is left."""
    while len(rating):
        enough = [
            np.bincount(rating[:, column])[rating[:, column]] >= k for column in (_USER, _ITEM)
        ]
        keep = enough[0] & enough[1]
        if keep.all():
            break
        rating = rating[keep]
    return rating


def counts(folder: Path, file_format: str) -> dict[str, Any]:
    """Rows, users and items as read; rows after cleaning; all three after the 5-core.

    Raises:
        UserError: the file does not fit.
    """
    rating = read(folder, file_format)
    cleaned = clean(rating)
    core = k_core(cleaned, _CORE)
    return {
        **_sizes("", rating),
        "cleaned_rows": len(cleaned),
        **_sizes("core_", core),
    }


def _sizes(prefix: str, rating: np.ndarray) -> dict[str, int]:
    return {
        f"{prefix}rows": len(rating),
        f"{prefix}users": len(np.unique(rating[:, _USER])),
        f"{prefix}items": len(np.unique(rating[:, _ITEM])),
    }


def interactions(folder: Path, file_format: str, spec: "Epinions") -> Interactions:
    """Cleaned rows of the largest domains, in file order.

    First the rows are cleaned, then comes the k-core over all categories, then the choice of the
    domains with the most rows in it. So a user may have fewer than k rows in the chosen ones.
    Domain 0 is the largest; users and items are numbered from 0 in the order of their raw ids.

    Raises:
        UserError: the file does not fit, or has fewer domains than asked for.
    """
    rating = k_core(clean(read(folder, file_format)), spec.core)
    sizes = np.bincount(rating[:, _CATEGORY], minlength=1)
    largest = np.argsort(-sizes, kind="stable")[: spec.domains]
    if len(largest) < spec.domains or sizes[largest[-1]] == 0:
        raise UserError(
            f"{folder}: {np.count_nonzero(sizes)} domains are left after the {spec.core}-core, "
            f"{spec.domains} are asked for; lower `domains` or `core` (data.datasets in "
            "params.yaml)"
        )
    rating = rating[np.isin(rating[:, _CATEGORY], largest)]
    users, user = np.unique(rating[:, _USER], return_inverse=True)
    items, item = np.unique(rating[:, _ITEM], return_inverse=True)
    domain_of = np.zeros(len(sizes), np.int16)
    domain_of[largest] = np.arange(spec.domains)
    domain = domain_of[rating[:, _CATEGORY]]
    return Interactions(
        schema=Schema(
            fields=(("user", len(users)), ("item", len(items)), ("domain", spec.domains)),
            dense=(),
            domains=tuple(f"category {category}" for category in largest),
            tasks=("click",),
        ),
        fields=np.stack([user, item, domain], axis=1).astype(np.int32),
        dense=np.zeros((len(domain), 0), np.float32),
        labels=(rating[:, _RATING] >= spec.label_at_least).astype(np.uint8)[:, None],
        domain=domain,
        time=rating[:, _TIME],
    )
