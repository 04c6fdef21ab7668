"""CPU time and memory as domains grow, with a long tail: base, MLoRA, experts and gate.

`python -m benchmarks.domains <domains> <phase> <threads>` is a process that trains.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.backbones import THREE
from benchmarks.booths import as_it_comes
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.experts import Phases
from benchmarks.results import OURS, Measurement, amounts
from benchmarks.rows import own_memory
from benchmarks.study import ROOT
from benchmarks.timing import Work

DOMAINS = (10, 100, 1_000, 10_000)
PHASES = ("base", "mlora", "experts", "gate")
ROWS, STEPS = 100_000, 3
"""Rows of the data, and batches of a turn; the experts phase visits all rows at once."""


def measure(effort: Effort) -> Iterator[Measurement]:
    """Each phase in a process of its own."""
    for domains in DOMAINS:
        for phase in PHASES:
            command = [sys.executable, "-m", "benchmarks.domains", str(domains), phase]
            done = subprocess.run(
                [*command, str(effort.threads)],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            )
            found = json.loads(done.stdout)
            name, threads = f"{phase}, {domains} domains", effort.threads
            step = {OURS: [1000 * found["seconds"]]}
            unit = "ms an epoch" if phase == "experts" else "ms a step"
            yield from amounts("domains, time", name, unit, step, threads, found["rows"])
            memory = {OURS: [found["own_mb"]]}
            yield from amounts("domains, memory", name, "MB", memory, threads, found["rows"])


class LongTail(Phases):
    """The phases on rows whose domain d has a share of 1 / (d + 1); each has rows."""

    def __init__(self, domains: int) -> None:
        super().__init__(ROWS, 2, THREE.batch)
        share = 1 / np.arange(1, domains + 1)
        rng = np.random.default_rng(0)
        rest = rng.choice(domains, size=ROWS - domains, p=share / share.sum())
        domain = rng.permutation(np.concatenate([np.arange(domains), rest]))
        data = rows_like_movielens(ROWS, THREE.fields)
        sizes = dict(data.schema.fields) | {THREE.fields[-1]: domains}
        fields = np.array(data.fields)
        fields[:, -1] = domain
        names = tuple(str(d) for d in range(domains))
        schema = replace(data.schema, fields=tuple(sizes.items()), domains=names)
        self.data = replace(data, schema=schema, fields=fields, domain=domain.astype(np.int16))
        self.domains = domains


def run(domains: int, phase: str) -> dict[str, Any]:
    """CPU seconds of a step (of the experts phase: an epoch), the second time, and memory."""
    phases = LongTail(domains)
    rows = phases.rows[: STEPS * THREE.batch]
    if phase == "experts":
        work: Work = phases.experts().side_by_side
        rows = phases.rows
    else:
        loop = {
            "base": lambda: phases._loop(model := phases.model(0), dict(model.named_parameters())),
            "mlora": phases.mlora,
            "gate": phases.gate,
        }[phase]()
        work = partial(loop.epoch, rows)
    work()
    start = time.process_time()
    work()
    seconds = time.process_time() - start
    steps = 1 if phase == "experts" else STEPS
    return {"seconds": seconds / steps, "rows": len(rows), "own_mb": own_memory()}


if __name__ == "__main__":
    as_it_comes(OURS, int(sys.argv[3]))
    print(json.dumps(run(int(sys.argv[1]), sys.argv[2])))
