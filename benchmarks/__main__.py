"""Run benchmarks and write their results: `python -m benchmarks`."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import m3oe, machine
from benchmarks.results import Measurement, write
from domain_experts.files import write_json


def main(
    out: Annotated[Path, typer.Option(help="folder of the results")] = Path("results/benchmarks"),
    threads: Annotated[int, typer.Option(min=1, help="threads of each contestant")] = 1,
) -> None:
    """Run the benchmarks."""
    torch.set_num_threads(threads)
    write_json(out / "machine.json", machine.describe(threads))
    found: list[Measurement] = m3oe.measure(None, rounds=7, threads=threads)
    write(found, out / "benchmarks.csv")


if __name__ == "__main__":
    typer.run(main)
