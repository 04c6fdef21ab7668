"""What each user met before, of the log's own rows."""

import numpy as np

from domain_experts.data.log.spec import NONE


class Histories:
    """The last items of each row's user at strictly earlier moments, latest first.

    Args:
        user: (N,) keys of users; rows without one (`known` false) have no history.
        known: (N,) bool.
        time: (N,) int64.
        codes: field -> (N,) int32 pooled codes of its ids.
    """

    def __init__(
        self, user: np.ndarray, known: np.ndarray, time: np.ndarray, codes: dict[str, np.ndarray]
    ) -> None:
        order = np.lexsort((time, user))
        new_user = np.append(True, user[order][1:] != user[order][:-1])[: len(order)]
        new_moment = new_user | np.append(True, time[order][1:] != time[order][:-1])[: len(order)]
        at = np.arange(len(order))
        self._first = np.maximum.accumulate(np.where(new_user, at, 0))
        self._moment = np.maximum.accumulate(np.where(new_moment, at, 0))
        self._place = np.empty(len(order), np.int64)
        self._place[order] = at
        self._known = known
        self._codes = {name: column[order] for name, column in codes.items()}

    def of(self, rows: slice, name: str, last: int) -> np.ndarray:
        """(n, last) int32 codes."""
        place = self._place[rows]
        found = np.full((len(place), last), NONE, np.int32)
        for k in range(last):
            earlier = self._moment[place] - 1 - k
            has = self._known[rows] & (earlier >= self._first[place])
            found[has, k] = self._codes[name][earlier[has]]
        return found
