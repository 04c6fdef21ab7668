"""Run benchmarks and write their results: `python -m benchmarks`."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from os import devnull
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import (
    arithmetic,
    auc,
    backbones,
    domains,
    effort,
    experts,
    jobs,
    lazy_adam,
    limit,
    m3oe,
    machine,
    multi_domain,
    own_log,
    reading,
    report,
    rows,
    serving,
    shares,
    start,
    together,
    whole_run,
)
from benchmarks.results import Measurement, read, write
from domain_experts.files import write_json

BENCHMARKS: dict[str, Callable[[effort.Effort], Iterator[Measurement]]] = {
    "backbones": backbones.measure,
    "processes": backbones.processes,
    "m3oe": m3oe.measure,
    "multi_domain": multi_domain.measure,
    "experts": experts.measure,
    "growth": experts.growth,
    "domains": domains.measure,
    "rows": rows.measure,
    "whole_run": whole_run.measure,
    "jobs": jobs.measure,
    "together": together.measure,
    "arithmetic": arithmetic.measure,
    "auc": auc.measure,
    "reading": reading.measure,
    "own_log": own_log.measure,
    "serving": serving.measure,
    "start": start.measure,
    # the last: they change how the process keeps memory
    "lazy_adam": lazy_adam.measure,
    "shares": shares.measure,
    "limit": limit.measure,
}
RESULTS = "benchmarks.csv"


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="names of benchmarks; what others found stays")
    ] = None,
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("results/benchmarks"),
    threads: Annotated[int, typer.Option(min=1, help="threads of each contestant")] = 1,
    full: Annotated[bool, typer.Option(help="all models, up to 10^8 rows")] = False,
) -> None:
    """Run benchmarks."""
    unknown = set(only or ()) - set(BENCHMARKS)
    if unknown:
        known = ", ".join(BENCHMARKS)
        raise typer.BadParameter(f"no benchmark {', '.join(sorted(unknown))}; there are {known}")
    torch.set_num_threads(threads)
    chosen = effort.full(threads) if full else effort.usual(threads)
    write_json(out / "machine.json", machine.describe(threads))
    if not only:
        (out / RESULTS).unlink(missing_ok=True)
    found: list[Measurement] = []
    for name in [name for name in BENCHMARKS if not only or name in only]:
        begun = time.monotonic()
        # some libraries print each step
        with Path(devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
            for measurement in BENCHMARKS[name](chosen):
                found.append(measurement)
                say(f"{measurement.benchmark}: {measurement.line}")
        say(f"--- {name}: {time.monotonic() - begun:.0f} s")
        write(found, out / RESULTS)
    report.write_report(read(out / RESULTS), out)
    say(f"results are in {out}")


def say(message: str) -> None:
    """Print a line to standard error."""
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    typer.run(main)
