"""Two jobs of one thread at once, as Snakemake runs them with two cores, against one by one."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from benchmarks.backbones import NINE, with_held_out
from benchmarks.booths import Booth, booths
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.results import OURS, Measurement, throughput
from benchmarks.timing import in_turns

ONE_BY_ONE = "one job after the other"
DIVISORS = {"wdl": 1, "xdeepfm": 10}
"""Models, and by what the number of their rows is divided."""


def measure(effort: Effort) -> Iterator[Measurement]:
    """Epochs of two processes with one thread each: at once, and one after the other."""
    data = rows_like_movielens(effort.slow_rows, NINE.fields)
    for model, divisor in DIVISORS.items():
        rows = effort.slow_rows // divisor
        own = with_held_out(model, NINE, data, rows)
        with booths({"first": OURS, "second": OURS}, threads=1) as opened:
            pair = list(opened.values())
            for booth in pair:
                booth.enter(own)
            work = {OURS: partial(at_once, pair), ONE_BY_ONE: partial(one_by_one, pair)}
            seconds = in_turns(work, effort.rounds)
        name = f"{model}, {NINE.name}"
        yield from throughput("two jobs", name, seconds, 2 * len(own.train), own.batch, 1)


def at_once(pair: list[Booth]) -> None:
    """An epoch of both."""
    with ThreadPoolExecutor(len(pair)) as pool:
        list(pool.map(lambda booth: booth.ask("epoch"), pair))


def one_by_one(pair: list[Booth]) -> None:
    """An epoch of each."""
    for booth in pair:
        booth.ask("epoch")
