"""Paired timing: contestants take turns, so that they share the machine's moods.

Absolute times drift by tens of percent; ratios within a round do not.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Clock = Callable[[], float]
Work = Callable[[], object]


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    lower: float
    upper: float


def in_turns(
    contestants: Mapping[str, Work],
    rounds: int,
    warm_up: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds that each contestant took in each round.

    In a round each runs once; every second round goes in reversed order, so that nobody always
    follows the same one. Nothing is recorded in the first `warm_up` rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(warm_up + rounds):
        for name in names if number % 2 == 0 else reversed(names):
            start = clock()
            contestants[name]()
            taken = clock() - start
            if number >= warm_up:
                seconds[name].append(taken)
    return seconds


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of some values."""
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return Spread(float(median), float(lower), float(upper))


def rates(work: float, seconds: Sequence[float]) -> Spread:
    """Work per second, such as rows per second."""
    return spread([work / s for s in seconds])


def speedup(slow: Sequence[float], fast: Sequence[float]) -> Spread:
    """How many times as fast `fast` was, round by round."""
    return spread([s / f for s, f in zip(slow, fast, strict=True)])
