"""How much is run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Sizes of a run of the benchmarks, and the threads of each contestant."""

    threads: int
    rows: int
    """Rows of a data set."""
    slow_rows: int
    """The same for what does less than 20,000 rows a second."""
    steps: int
    """Training steps a turn."""
    rounds: int
    scales: tuple[int, ...]
    """Rows of the data sets that show how cost grows with rows."""
    domains: tuple[int, ...] = (2, 10, 30)
    growing_domains: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    full: bool = False
    """Also what takes long: epochs of the multi-task models, whole processes of all models."""


def usual(threads: int) -> Effort:
    """At most 45 minutes on two idle cores."""
    return Effort(threads, 1_000_000, 100_000, steps=4, rounds=5, scales=(10**5, 10**6))


def full(threads: int) -> Effort:
    """Everything."""
    scales = (10**5, 10**6, 10**7, 10**8)
    return Effort(threads, 1_000_000, 100_000, steps=4, rounds=5, scales=scales, full=True)
