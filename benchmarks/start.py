"""What is paid before any work: the command line's start, and a workflow with nothing to do."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.results import OURS, Measurement, amounts
from benchmarks.study import ROOT
from benchmarks.timing import in_turns

BIN = Path(sys.executable).parent
PROJECT = ("workflow", "src", "params.yaml")
BARE = "the interpreter alone"
ROUNDS = 3


def measure(effort: Effort) -> Iterator[Measurement]:
    """Seconds of whole commands."""
    work = {
        OURS: partial(call, [str(BIN / "domain-experts"), "--help"], ROOT),
        BARE: partial(call, [sys.executable, "-c", "pass"], ROOT),
    }
    seconds = in_turns(work, ROUNDS)
    yield from amounts("start", "domain-experts --help", "s", seconds, effort.threads)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        for part in PROJECT:
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
        smoke = [str(BIN / "snakemake"), "--config", "tier=smoke"]
        call(smoke, folder)
        seconds = in_turns({OURS: partial(call, smoke, folder)}, ROUNDS)
    yield from amounts("start", "smoke tier, up to date", "s", seconds, effort.threads)


def call(command: Sequence[str], folder: Path) -> None:
    """Run a command of this environment.

    Raises:
        CalledProcessError: it failed.
    """
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
