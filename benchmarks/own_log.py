"""A generated click log of ten columns to Interactions: rows a second and peak memory.

`python -m benchmarks.own_log --rows 5e7`; of several `--rows` also 200 M, by a straight line.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from benchmarks.effort import Effort
from benchmarks.process import peak_memory
from benchmarks.results import OURS, Measurement, amounts
from benchmarks.study import ROOT

FULL = (5_000_000, 15_000_000, 50_000_000)
GOAL = 200_000_000
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


def measure(effort: Effort) -> Iterator[Measurement]:
    """Seconds and peak memory of a process as rows grow; of many rows, on to 200 M."""
    counts = FULL if effort.full else tuple(10 * rows for rows in effort.scales)
    found = {rows: read_apart(rows) for rows in counts}
    amount = {f"{rows:.0e} rows": (rows, one) for rows, one in found.items()}
    # few rows meet new ids all the time: the line through them is far too steep
    if effort.full:
        amount["2e+08 rows, by a straight line"] = (GOAL, extrapolated(found))
    for name, (rows, one) in amount.items():
        for what, unit, key in (
            ("own log, time", "s", "seconds"),
            ("own log, processor time", "s", "cpu_seconds"),
            ("own log, memory", "MB", "peak_mb"),
        ):
            yield from amounts(what, name, unit, {OURS: [one[key]]}, effort.threads, rows)


def read_apart(rows: int, folder: Path | None = None) -> dict[str, float]:
    """Generate a log and read it in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=folder) as name:
        path = Path(name, "log.parquet")
        generate(path, rows)
        command = [sys.executable, "-m", "benchmarks.own_log_reader", str(path)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        done = subprocess.run(
            command, cwd=name, env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def extrapolated(found: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Each number at 200 M rows, on the least-squares line through those measured."""
    return {key: sum(part) for key, part in lines(found).items()}


def lines(found: Mapping[int, Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Of each number the fixed part and that of 200 M rows, by least squares."""
    rows = np.array([*found], float)
    keys = next(iter(found.values()))
    fits = {key: np.polyfit(rows, [one[key] for one in found.values()], 1) for key in keys}
    return {key: (float(fit[1]), float(fit[0] * GOAL)) for key, fit in fits.items()}


def main(
    rows: Annotated[list[float] | None, typer.Option(help="how many; may be repeated")] = None,
    folder: Annotated[Path | None, typer.Option(help="where they are written for a while")] = None,
) -> None:
    """Say how fast logs are read, and how large the process grew."""
    found = {}
    for count in map(int, rows or (5e6,)):
        one = found[count] = read_apart(count, folder)
        print(
            f"{count:,} rows: {one['seconds']:.1f} s, {count / one['seconds']:,.0f} rows/s, "
            f"{count / one['cpu_seconds']:,.0f} rows/s of a core, peak {one['peak_mb']:,.0f} MB, "
            f"load {os.getloadavg()[0]:.1f}"
        )
    if len(found) > 1:
        of = lines(found)
        fixed, growing = of["peak_mb"]
        print(
            f"{GOAL:,} rows, by a straight line: {sum(of['seconds']):,.0f} s, peak "
            f"{fixed + growing:,.0f} MB ({fixed:,.0f} MB and {1e6 * growing / GOAL:.1f} bytes a "
            "row)"
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
