"""Whole processes: from the interpreter's start to the AUC after one epoch, and their peak memory.

`python -m benchmarks.process <contestant> <folder>` is such a process.
"""

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.booths import as_it_comes
from benchmarks.peers.base import Job, contestants, enter
from benchmarks.results import Measurement, amounts
from benchmarks.timing import in_turns
from domain_experts.auc import macro_auc
from domain_experts.data.interactions import Interactions, write
from domain_experts.settings import RunSettings

ROOT = Path(__file__).parents[1]


def measure(own: Job, name: str, rounds: int, threads: int) -> Iterator[Measurement]:
    """Seconds and peak memory of whole processes of all contestants."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder)
        write(own.data, path / "data", {})
        settings = own.settings.model_dump_json()
        plan = {"model": own.model, "threads": threads, "settings": json.loads(settings)}
        np.savez(path / "rows.npz", train=own.train, held_out=own.held_out)
        (path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        made: dict[str, list[dict[str, float]]] = {n: [] for n in contestants(own.model)}

        def spawn(contestant: str) -> None:
            command = [sys.executable, "-m", "benchmarks.process", contestant, folder]
            done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
            made[contestant].append(json.loads(done.stdout.splitlines()[-1]))

        work = {n: partial(spawn, n) for n in made}
        seconds = in_turns(work, rounds, warm_up=0)
    rows = len(own.train)
    yield from amounts("whole process", name, "s", seconds, threads, rows)
    memory = {n: [one["peak_mb"] for one in all_] for n, all_ in made.items()}
    yield from amounts("peak memory", name, "MB", memory, threads, rows)


def run(contestant: str, folder: Path) -> dict[str, Any]:
    """Train one epoch, predict and evaluate; AUC and peak memory."""
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    as_it_comes(contestant, plan["threads"])
    data = Interactions.open(folder / "data")
    rows = np.load(folder / "rows.npz")
    settings = RunSettings.model_validate(plan["settings"])
    own = Job(plan["model"], data, rows["train"], rows["held_out"], settings)
    entrant = enter(contestant, own)
    entrant.epoch()
    labels = np.asarray(data.labels)[own.held_out]
    scores = entrant.predict().reshape(labels.shape)
    auc = macro_auc(scores, labels, np.zeros(len(labels), np.int64), 1)
    return {"auc": auc, "peak_mb": peak_memory()}


def peak_memory() -> float:
    """Peak resident memory of this process in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    found = run(sys.argv[1], Path(sys.argv[2]))
    print(json.dumps(found))
