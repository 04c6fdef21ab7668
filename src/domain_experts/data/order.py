"""Named orders of rows."""

import numpy as np

# one shuffled order for all: the runs' seeds vary the training, not the rows
_SHUFFLE_SEED = 0


def by_time(time: np.ndarray) -> np.ndarray:
    """(N,) int64 row numbers, earliest row first; rows of one moment keep their order."""
    return np.argsort(time, kind="stable")


def two_sorts(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Row numbers as pandas' former inner merge left ratings that were joined to items and users.

    Rows go by their item's first appearance; then, stably, by their user's first appearance in
    that order. The public sample of M3oE's prepared MovieLens-1M is in this order.

    Args:
        user: (N,) ids.
        item: (N,) ids.

    Returns:
        (N,) int64 row numbers.
    """
    by_item = np.argsort(_appearance(item), kind="stable")
    return by_item[np.argsort(_appearance(user[by_item]), kind="stable")]


def _appearance(ids: np.ndarray) -> np.ndarray:
    """(N,) number of the row where each row's id appears first."""
    _, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    return np.asarray(first[inverse])


def shuffled(rows: int) -> np.ndarray:
    """(N,) int64 row numbers in one fixed random order."""
    return np.random.default_rng(_SHUFFLE_SEED).permutation(rows)


def each_user(user: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Row numbers by the share of the user's history that lies before the row.

    Of a user with n rows the k-th (from 0) by time stands at (k + 1/2) / n, so a cut by position
    takes the last rows of every user. Rows at one place go by time.

    Args:
        user: (N,) ids.
        time: (N,) moments; rows of one moment keep their order.

    Returns:
        (N,) int64 row numbers.
    """
    order = by_time(time)
    order = order[np.argsort(user[order], kind="stable")]
    _, first, sizes = np.unique(user[order], return_index=True, return_counts=True)
    place = np.empty(len(user))
    rank = np.arange(len(user)) - np.repeat(first, sizes)
    place[order] = (rank + 0.5) / np.repeat(sizes, sizes)
    return np.lexsort((time, place))
