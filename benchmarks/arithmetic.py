"""Products in bfloat16, and compiled models, against the package as it is set."""

import os
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.backbones import NINE, job
from benchmarks.booths import booths
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.results import OURS, Measurement, throughput
from benchmarks.timing import in_turns

COMPILED = "compiled"
MODELS = ("wdl", "xdeepfm")
WAYS: dict[str, dict[str, Any]] = {
    OURS: {},
    "bfloat16": {"training.precision": "bfloat16"},
    COMPILED: {"training.compiled": True},
}


def measure(effort: Effort) -> Iterator[Measurement]:
    """Training steps; those of the warm-up hold the compilation.

    Compiled models are left out where there is no C++ compiler.
    """
    ways = dict(WAYS)
    if not shutil.which(os.environ.get("CXX", "g++")):
        del ways[COMPILED]
    data = rows_like_movielens(NINE.batch, NINE.fields)
    for model in MODELS:
        with booths(dict.fromkeys(ways, OURS), effort.threads) as opened:
            for way, booth in opened.items():
                booth.enter(job(model, NINE, data, NINE.batch, replaced=ways[way]))
            work = {way: partial(booth.ask, "steps", effort.steps) for way, booth in opened.items()}
            seconds = in_turns(work, effort.rounds)
        rows = effort.steps * NINE.batch
        name = f"{model}, {NINE.name}"
        yield from throughput("arithmetic", name, seconds, rows, NINE.batch, effort.threads)
