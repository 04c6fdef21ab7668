"""Tries faults on small studies, and keeps what became of them in results/faults.

    python scripts/faults.py kills [--number N] [--seed SEED]

`kills` (kills.csv): a study is killed at a random moment, then resumed by the documented commands
(`domain-experts unlock` if Snakemake left its lock, and the same `snakemake` again), killed again,
and so on until it ends. After each kill `domain-experts check` looks for damage; in the end all
that the seed determines is compared with a study that nothing happened to.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import killed  # noqa: E402
import psutil  # noqa: E402
from projects import end_forks, make_smallest  # noqa: E402

from domain_experts.files import TEMPORARY  # noqa: E402

RESULTS = ROOT / "results/faults"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
WHOM = ("group", "snakemake", "job", "any")
DETERMINED = {
    "data": ("*.npy", "card.json", "splits.json"),
    "artifacts": ("*.npy", "*.safetensors", "record.json", "runs.json"),
    "results": ("results.parquet", "tables/*.csv"),
}
"""Folder -> files that the seed determines."""
TIMES = ("cost.csv",)
"""Files among these that tell how long something took."""


def determined(folder: Path) -> dict[Path, bytes]:
    """Path -> bytes of all that the seed determines."""
    found = {
        path.relative_to(folder): path.read_bytes()
        for name, patterns in DETERMINED.items()
        for pattern in patterns
        for path in (folder / name).rglob(pattern)
    }
    # temporary files of killed processes are for `gc`
    return {
        path: found[path]
        for path in sorted(found)
        if path.name not in TIMES and TEMPORARY not in str(path)
    }


def different(whole: dict[Path, bytes], other: dict[Path, bytes]) -> list[str]:
    """Files that two studies do not have alike."""
    return [str(path) for path in sorted({*whole, *other}) if whole.get(path) != other.get(path)]


class Killer:
    """Kills studies, at moments and in ways that a generator draws."""

    SECONDS, STEPS = 4.0, 25.0
    """After how many seconds, or steps of writing, a kill comes in the mean."""

    def __init__(self, draws: random.Random) -> None:
        self.draws, self.fuse = draws, killed.Fuse()

    def once(self, folder: Path) -> tuple[killed.Command, dict[str, Any] | None]:
        """Run a study once; what was done to it, or nothing if it ended before."""
        number = self.draws.choice(SIGNALS)
        if self.draws.random() < 0.5:
            return self._in_a_write(folder, number)
        whom = self.draws.choice(WHOM)
        # servers and keepers of jobs leave interrupts to the jobs
        return self._at_a_time(folder, signal.SIGKILL if whom == "any" else number, whom)

    def _in_a_write(
        self, folder: Path, number: signal.Signals
    ) -> tuple[killed.Command, dict[str, Any] | None]:
        group = self.draws.random() < 0.5
        self.fuse.light(1 + int(self.draws.expovariate(1 / self.STEPS)), number, group)
        began = time.monotonic()
        command = killed.snakemake_in(folder)
        while command.running() and self.fuse.went_off is None:
            time.sleep(0.01)
        if self.fuse.went_off is None:
            self.fuse.put_out()
            return command, None
        seconds = time.monotonic() - began
        whom = "group" if group else "job"
        return command, _kill(number, whom, self.fuse.went_off, seconds)

    def _at_a_time(
        self, folder: Path, number: signal.Signals, whom: str
    ) -> tuple[killed.Command, dict[str, Any] | None]:
        wait = self.draws.expovariate(1 / self.SECONDS)
        began = time.monotonic()
        command = killed.snakemake_in(folder)
        while command.running():
            if time.monotonic() - began > wait and self._send(command, number, whom):
                return command, _kill(number, whom, "any moment", time.monotonic() - began)
            time.sleep(0.01)
        return command, None

    def _send(self, command: killed.Command, number: signal.Signals, whom: str) -> bool:
        """Whether there was somebody to kill."""
        try:
            if whom == "group":
                os.killpg(command.pid, number)
                return True
            if whom == "snakemake":
                found = [psutil.Process(command.pid)]
            else:
                found = command.jobs() if whom == "job" else command.session()
            if not found:
                return False
            self.draws.choice(found).send_signal(number)
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False
        return True


def _kill(number: signal.Signals, whom: str, moment: str, seconds: float) -> dict[str, Any]:
    return {"signal": number.name, "whom": whom, "moment": moment, "seconds": round(seconds, 2)}


def until_done(killer: Killer, folder: Path) -> Iterator[dict[str, Any]]:
    """Kill and resume a study until it ends; yields each kill and the state that it left.

    Raises:
        SystemExit: a command failed that should not.
    """
    while True:
        command, kill = killer.once(folder)
        status = command.wait()
        if kill is None:
            if status:
                sys.exit(f"snakemake failed in {folder}:\n{command.said()[-5000:]}")
            return
        locked, refused = _unlock(folder, command)
        command.deserted()
        checked = killed.domain_experts_in(folder, "check", "--tier", "smoke")
        finished = len([*folder.glob("artifacts/smoke/**/runs.json")])
        unfinished = len([*folder.glob(".runs/*/checkpoint*")])
        yield kill | {
            "status": status,
            "locked": locked,
            "unlock_refused": refused,
            "jobs_finished": finished,
            "checkpoints": unfinished,
            "sound": checked.wait() == 0,
        }


def _unlock(folder: Path, before: killed.Command) -> tuple[bool, bool]:
    """Clear Snakemake's lock; whether it was there, and whether a process was waited for.

    Raises:
        SystemExit: it cannot be cleared although nothing trains.
    """
    if not (folder / ".snakemake/locks").is_dir() or not any(
        (folder / ".snakemake/locks").iterdir()
    ):
        return False, False
    command = killed.domain_experts_in(folder, "unlock")
    if command.wait() == 0:
        return True, False
    before.deserted()
    command = killed.domain_experts_in(folder, "unlock")
    if command.wait():
        sys.exit(f"unlock failed in {folder}:\n{command.said()[-5000:]}")
    return True, True


def whole_study(work: Path) -> tuple[Path, dict[Path, bytes]]:
    """A project that is yet to be run, and the bytes of one that nothing happened to."""
    fresh = work / "fresh"
    make_smallest(fresh)
    end_forks()
    folder = work / "whole"
    shutil.copytree(fresh, folder)
    command = killed.snakemake_in(folder)
    if command.wait():
        sys.exit(command.said())
    return fresh, determined(folder)


def kills(work: Path, number: int, seed: int) -> None:
    """Write kills.csv: at least that many, each study to its end."""
    killer = Killer(random.Random(seed))
    fresh, whole = whole_study(work)
    rows: list[dict[str, Any]] = []
    study = 0
    while len(rows) < number:
        study += 1
        folder = work / f"study {study}"
        shutil.copytree(fresh, folder)
        own = []
        for kill in until_done(killer, folder):
            own.append({"study": study, "kill": len(own) + 1} | kill)
            print(own[-1], flush=True)
        apart = different(whole, determined(folder))
        print(f"study {study}: {len(own)} kills, {apart or 'equal bytes'}", flush=True)
        rows += [row | {"equal": not apart} for row in own]
        RESULTS.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(RESULTS / "kills.csv", index=False, lineterminator="\n")
        if not apart:
            shutil.rmtree(folder)
        else:
            print(f"kept: {folder}", *apart, sep="\n")


def main() -> None:
    """The trials that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("trial", choices=["kills"])
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    killed.prepare()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        kills(Path(folder).resolve(), asked.number, asked.seed)


if __name__ == "__main__":
    main()
