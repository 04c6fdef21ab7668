"""A generated click log of ten columns to Interactions: rows a second and peak memory.

`python -m benchmarks.own_log --rows 5e6`
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from benchmarks.process import peak_memory

_GROUP = 1_000_000
_USERS, _ITEMS, _CATEGORIES, _DOMAINS = 2_000_000, 300_000, 2_000, 50


def generate(path: Path, rows: int) -> None:
    """Write a log of ten columns, texts and numbers, in row groups of a million."""
    rng = np.random.default_rng(0)
    out: pq.ParquetWriter | None = None
    for start in range(0, rows, _GROUP):
        n = min(_GROUP, rows - start)
        item = (rng.pareto(1.0, n) * 1000).astype(np.int64) % _ITEMS
        table = pa.table(
            {
                "user": pa.array(rng.integers(0, _USERS, n)),
                "item": pc_text("item", item),
                "category": pc_text("category", item % _CATEGORIES),
                "brand": pa.array(item % 9973),
                "device": pc_text("device", rng.integers(0, 5, n)),
                "shop": pc_text("shop", rng.integers(0, _DOMAINS, n)),
                "price": pa.array(rng.exponential(10, n)),
                "age": pa.array(rng.normal(40, 10, n)),
                "ts": pa.array(np.arange(start, start + n) + 1_700_000_000),
                "click": pa.array((rng.random(n) < 0.1).astype(np.int8)),
            }
        )
        out = out or pq.ParquetWriter(path, table.schema, compression="snappy")
        out.write_table(table)
    if out:
        out.close()


def pc_text(name: str, codes: np.ndarray) -> pa.Array:
    """Ids in words."""
    names = np.char.add(f"{name}-", np.arange(int(codes.max()) + 1).astype(str))
    return pa.array(names).take(pa.array(codes))


def spec(path: Path) -> dict[str, object]:
    """What is said of it."""
    return {
        "source": "log",
        "files": str(path),
        "domain": "shop",
        "tasks": {"click": "click"},
        "fields": {name: {} for name in ("user", "item", "category", "brand", "device", "shop")},
        "dense": [{"column": "price", "transform": "log"}, "age"],
        "time": "ts",
    }


def main(
    rows: Annotated[float, typer.Option(help="how many")] = 5e6,
    folder: Annotated[Path | None, typer.Option(help="where they are written for a while")] = None,
) -> None:
    """Generate a log, read it in a process of its own, say how fast and how large that was."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as name:
        path = Path(name, "log.parquet")
        generate(path, int(rows))
        command = [sys.executable, "-m", "benchmarks.own_log_reader", str(path)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            command, cwd=name, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        size = path.stat().st_size / 1e6
    print(
        f"{int(rows):,} rows ({size:,.0f} MB): {found['seconds']:.1f} s, "
        f"{rows / found['seconds']:,.0f} rows/s, {rows / found['cpu_seconds']:,.0f} rows/s "
        f"of a core, peak {found['peak_mb']:,.0f} MB, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def read(path: Path) -> None:
    """Read a log in this process."""
    from domain_experts.data.log.reader import prepare
    from domain_experts.data.specs import Log

    begun, worked = time.perf_counter(), time.process_time()
    prepare("log", Log.model_validate(spec(path)))
    found = {
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - worked,
        "peak_mb": peak_memory(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    typer.run(main)
