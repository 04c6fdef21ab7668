"""Cost and memory as rows grow: training on a sample of memory-mapped rows.

The memory is that of the process alone: pages of the files, which the system can take back, do not
count.

`python -m benchmarks.rows <folder> <threads>` is the process that trains.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from benchmarks.backbones import THREE, job
from benchmarks.booths import as_it_comes
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.ours import Entrant
from benchmarks.results import OURS, Measurement, amounts, throughput
from benchmarks.study import ROOT
from benchmarks.timing import in_turns
from domain_experts.data.interactions import Interactions

CHUNK = 1_000_000
ROUNDS = 3
BATCHES = 100
"""Of a turn."""
ARRAYS = ("fields", "dense", "labels", "domain")


def measure(effort: Effort) -> Iterator[Measurement]:
    """Rows a second and memory of a process, for growing data sets."""
    for rows in effort.scales:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            write_rows(Path(folder), rows)
            command = [sys.executable, "-m", "benchmarks.rows", folder, str(effort.threads)]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        name, seconds = f"wdl, {rows:.0e} rows", {OURS: found["seconds"]}
        visited, batch = found["visited"], THREE.batch
        yield from throughput("growth, rows", name, seconds, visited, batch, effort.threads)
        memory = {OURS: [found["own_mb"]]}
        yield from amounts("growth, memory", name, "MB", memory, effort.threads, rows)


def write_rows(folder: Path, rows: int) -> None:
    """Write generated rows chunk by chunk, so that none but one is in memory."""
    chunk = rows_like_movielens(min(CHUNK, rows), THREE.fields)
    for name in ARRAYS:
        own = getattr(chunk, name)
        shape = (rows, *own.shape[1:])
        if 0 in shape:
            np.save(folder / f"{name}.npy", np.zeros(shape, own.dtype))
            continue
        whole = open_memmap(folder / f"{name}.npy", "w+", own.dtype, shape)
        for start in range(0, rows, len(own)):
            part = whole[start : start + len(own)]
            part[:] = own[: len(part)]
        whole.flush()


def run(folder: Path) -> dict[str, Any]:
    """Train on a random sample of the rows."""
    schema = rows_like_movielens(1, THREE.fields).schema
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    data = Interactions(schema=schema, **arrays)
    sample = np.random.default_rng(0).integers(len(data.domain), size=BATCHES * THREE.batch)
    entrant = Entrant(replace(job("wdl", THREE, data, train=0), train=sample))
    seconds = in_turns({OURS: entrant.epoch}, ROUNDS)[OURS]
    return {"seconds": seconds, "visited": len(sample), "own_mb": own_memory()}


def own_memory() -> float:
    """Memory of this process in MB, without the pages of files; NaN where the system is not Linux.

    As freed memory is kept, this is the most that there was.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 2**10


if __name__ == "__main__":
    as_it_comes(OURS, int(sys.argv[2]))
    print(json.dumps(run(Path(sys.argv[1]))))
