"""Makes many small studies in one process, and keeps what it holds in results/faults/soak.csv.

    PYTHONMALLOC=malloc MIMALLOC_PURGE_DELAY=0 python scripts/soak.py [--studies N]

With these, Python allocates as all else does, and Arrow gives back at once what is freed; by
default both keep pages for later.

Each has a seed of its own: its split is drawn, a backbone, experts and a gate are trained and
evaluated, and `domain-experts gc --delete` takes away what it no longer needs of the one before.
After each is noted what would grow without end if something were never given back: memory of the
process and what of it is in use, open files and threads, files and bytes of the project's folders.
"""

import argparse
import contextlib
import ctypes
import io
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil
import pyarrow as pa

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from plain_yaml import read, write  # noqa: E402

from domain_experts.data.cut import write_splits  # noqa: E402
from domain_experts.data.prepare import prepare  # noqa: E402
from domain_experts.evaluation.evaluate import evaluate_dataset, merge  # noqa: E402
from domain_experts.leftovers import print_leftovers  # noqa: E402
from domain_experts.presence import load_study  # noqa: E402
from domain_experts.training import checkpoint  # noqa: E402
from domain_experts.training.job import execute  # noqa: E402

RESULTS = ROOT / "results/faults/soak.csv"
FIRST_SEED = 1000


def params_of(seed: int) -> dict[str, object]:
    """A study of one backbone, its experts and a gate."""
    params = read(ROOT / "params.yaml")
    main = params["experiments"]["main"]
    main = {"question": main["question"], "datasets": {"smoke": main["datasets"]["smoke"]}}
    main |= {"backbones": ["mlp"], "arms": ["item_rate", "base", "moe_mlora"], "compare": ["base"]}
    params["experiments"] = {"main": main}
    params["tier"] = "smoke"
    params["tiers"] = {"smoke": params["tiers"]["smoke"] | {"seeds": [seed]}}
    return params


def one(seed: int) -> int:
    """Make a study in the current folder; epochs that it trained."""
    write(params_of(seed), Path("params.yaml"))
    study = load_study("smoke")
    (dataset,) = study.datasets
    if not Path("data/interactions", dataset).is_dir():
        prepare(dataset, study.params.data.datasets[dataset])
    write_splits(study.params.data.split_rule(dataset), "smoke", dataset, study.seeds(dataset))
    for job in study.jobs():
        execute(study, job, device="cpu", threads=1)
    evaluate_dataset(study, dataset)
    merge(study)
    print_leftovers(study.params, delete=True)
    made = Path("artifacts").rglob("run.json")
    return sum(json.loads(path.read_text())["epochs"] for path in made)


class Allocations(ctypes.Structure):
    """glibc's `struct mallinfo2`, in bytes."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks"),
            *("uordblks", "fordblks", "keepcost"),
        )
    )


def in_use() -> int:
    """Bytes that somebody holds: glibc's, and those of Arrow, which has an allocator of its own."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Allocations
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd + pa.total_allocated_bytes())


def held(seconds: float) -> dict[str, float]:
    """What the process and its folder hold."""
    process = psutil.Process()
    files = [path for path in Path().rglob("*") if path.is_file()]
    return {
        "seconds": round(seconds, 1),
        "memory_mb": round(process.memory_info().rss / 2**20, 1),
        "in_use_mb": round(in_use() / 2**20, 1),
        "open_files": process.num_fds(),
        "threads": process.num_threads(),
        "files": len(files),
        "store_kb": _kilobytes(path for path in files if path.parts[0] == ".runs"),
        "project_kb": _kilobytes(files),
    }


def _kilobytes(files: object) -> int:
    return sum(path.stat().st_size for path in files) // 1000


def main() -> None:
    """Write the curve."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=150)
    studies = parser.parse_args().studies
    checkpoint.SECONDS_BETWEEN = 0.0
    rows, began, epochs = [], time.monotonic(), 0
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        os.chdir(folder)
        for study in range(1, studies + 1):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(sys.stdout):
                epochs += one(FIRST_SEED + study)
            rows.append({"study": study, "epochs": epochs} | held(time.monotonic() - began))
            print(rows[-1], flush=True)
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows).to_csv(RESULTS, index=False, lineterminator="\n")
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
