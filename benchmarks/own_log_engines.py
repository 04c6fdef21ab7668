"""The heavy passes of the reader of logs by pyarrow, as the package has them, DuckDB and Polars.

Each counts the distinct ids of every column over the training rows, then maps all rows' ids to
codes, a block at a time. `python -m benchmarks.own_log_engines --rows 5e6`; what is not installed
is left out, and said to be.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from benchmarks.own_log import generate
from benchmarks.process import peak_memory

IDS = ("user", "item", "category", "brand", "device", "shop")
THREADS = 2
TRAINING = "ts % 10 < 8"
"""Eight rows of ten; `ts` counts rows."""


def by_pyarrow(path: Path) -> int:
    """The package's own parts."""
    from domain_experts.data.log import values
    from domain_experts.data.log.counts import Counts
    from domain_experts.data.log.encoder import vocabulary
    from domain_experts.data.log.files import LogFiles

    pa.set_cpu_count(THREADS)
    files = LogFiles([str(path)])
    schema = files.schema(path)
    kinds = {name: values.kind_of(schema.field(name).type) for name in IDS}
    counts = {name: Counts() for name in IDS}
    for block in files.blocks([*IDS, "ts"]):
        training = pa.array(block.table["ts"].to_numpy() % 10 < 8)
        for name in IDS:
            counts[name].add(values.ids(block.table[name], kinds[name]).filter(training))
    found = {name: vocabulary(kinds[name], counts.pop(name).table(), 2, True) for name in IDS}
    total = 0
    for block in files.blocks(list(IDS)):
        for name in IDS:
            codes = found[name].places(values.ids(block.table[name], kinds[name])) + 1
            total += int(codes.sum())
    return total


def by_duckdb(path: Path) -> int:
    """Vocabularies as tables, codes by joins, results in streams of Arrow."""
    duckdb = import_module("duckdb")
    con = duckdb.connect(config={"threads": THREADS, "preserve_insertion_order": True})
    log = f"read_parquet('{path}')"
    for name in IDS:
        con.execute(
            f"CREATE TABLE v_{name} AS SELECT {name} AS id, row_number() OVER "
            f"(ORDER BY count(*) DESC, {name}) AS code FROM {log} WHERE {TRAINING} "
            f"GROUP BY {name} HAVING count(*) >= 2"
        )
    joins = " ".join(f"LEFT JOIN v_{n} ON v_{n}.id = log.{n}" for n in IDS)
    codes = ", ".join(f"coalesce(v_{n}.code, 0) AS {n}" for n in IDS)
    stream = con.sql(f"SELECT {codes} FROM {log} AS log {joins}").to_arrow_reader(1 << 19)
    return _total(stream)


def by_polars(path: Path) -> int:
    """The same in Polars' streaming engine, the codes by way of a Parquet file."""
    pl = import_module("polars")
    log = pl.scan_parquet(path)
    training = log.filter(pl.col("ts") % 10 < 8)
    joined = log.select(IDS)
    for name in IDS:
        counts = training.group_by(name).len().filter(pl.col("len") >= 2)
        table = counts.sort(["len", name], descending=[True, False]).collect(engine="streaming")
        table = table.select(name).with_row_index(f"code_{name}", offset=1)
        joined = joined.join(table.lazy(), on=name, how="left", maintain_order="left")
    codes = [pl.col(f"code_{name}").fill_null(0).alias(name) for name in IDS]
    out = path.with_name("codes.parquet")
    joined.select(codes).sink_parquet(out)
    with pq.ParquetFile(out) as file:
        return _total(file.iter_batches(1 << 19))


def _total(batches: Any) -> int:
    return sum(int(column.to_numpy().sum()) for batch in batches for column in batch.columns)


ENGINES: dict[str, Callable[[Path], int]] = {
    "pyarrow": by_pyarrow,
    "duckdb": by_duckdb,
    "polars": by_polars,
}


def main(
    rows: Annotated[list[float] | None, typer.Option(help="how many; may be repeated")] = None,
    engine: Annotated[str | None, typer.Option(help="read `file` in this process alone")] = None,
    file: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Time, processor time and peak memory of each engine, in a process of its own."""
    if engine and file:
        begun, worked = time.perf_counter(), time.process_time()
        total = ENGINES[engine](file)
        seconds = time.perf_counter() - begun
        cpu = time.process_time() - worked
        print(json.dumps({"s": seconds, "cpu": cpu, "mb": peak_memory(), "total": total}))
        return
    for count in map(int, rows or (5e6,)):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            path = Path(folder, "log.parquet")
            generate(path, count)
            totals = [t for name in ENGINES if (t := _measured(name, path, count)) is not None]
        if len(np.unique(totals)) > 1:
            raise SystemExit("the engines do not agree on the codes")


def _measured(name: str, path: Path, rows: int) -> int | None:
    if find_spec(name) is None:
        print(f"{name} is not installed here: left out")
        return None
    command = [sys.executable, "-m", "benchmarks.own_log_engines", "--engine", name]
    environment = os.environ | {
        "POLARS_MAX_THREADS": str(THREADS),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    done = subprocess.run(
        [*command, "--file", str(path)],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout)
    print(
        f"{rows:,} rows, {name}: {found['s']:.1f} s, {found['cpu']:.1f} s of processors, "
        f"peak {found['mb']:,.0f} MB"
    )
    return int(found["total"])


if __name__ == "__main__":
    typer.run(main)
