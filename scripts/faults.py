"""Tries faults on small studies, and keeps what became of them in results/faults.

    python scripts/faults.py [kills] [faults] [--number N] [--seed SEED]

`kills` (kills.csv): a study is killed at a random moment, then resumed by the documented commands
(`domain-experts unlock` if Snakemake left its lock, and the same `snakemake` again), killed again,
and so on until it ends. After a kill within a write `domain-experts check` looks for damage; in the
end all that the seed determines is compared with a study that nothing happened to.

`faults` (faults.csv): disks that are full, limited, read-only or broken, clocks that are wrong,
locks of processes that are gone, two users of one folder. What the command says is kept; then the
fault is mended, the same command is run again, and its end compared. This mounts file systems: it
must be root, on Linux, with a C compiler.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import killed  # noqa: E402
import psutil  # noqa: E402
from projects import end_forks, make_smallest  # noqa: E402

from domain_experts.files import TEMPORARY  # noqa: E402
from domain_experts.presence import load_study  # noqa: E402

RESULTS = ROOT / "results/faults"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
DETERMINED = {
    "data": ("*.npy", "card.json", "splits.json"),
    "artifacts": ("*.npy", "*.safetensors", "record.json", "runs.json"),
    "results": ("results.parquet",),
}
"""Folder -> files that the seed determines."""
Mend = Callable[[], None] | None
DAY = 24 * 3600.0
"""Seconds."""
EVALUATED = ("--", "evaluate")
"""Up to the results: tables and figures take longer than all before, and are made again whole."""
ANY_MOMENT = "any moment"
EPOCHS = 15
"""Of each run that is killed: there is something to go on from."""
SHIM = "eio.so"
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
    return {path: found[path] for path in sorted(found) if TEMPORARY not in str(path)}


def different(whole: dict[Path, bytes], other: dict[Path, bytes]) -> list[str]:
    """Files that two studies do not have alike."""
    return [str(path) for path in sorted({*whole, *other}) if whole.get(path) != other.get(path)]


@dataclass(frozen=True)
class Asked:
    """A command that is killed until it ends by itself.

    `seconds` and `steps` of writing are those after which a kill comes in the mean; `whom` it may
    strike.
    """

    start: Callable[[], killed.Command]
    seconds: float
    steps: float
    whom: tuple[str, ...]


def by_snakemake(folder: Path) -> list[Asked]:
    """A study up to its results by one command."""
    start = partial(killed.snakemake_in, folder, *EVALUATED)
    return [Asked(start, 2.5, 20.0, ("group", "snakemake", "job", "any"))]


def by_commands(folder: Path) -> list[Asked]:
    """The same by the commands that Snakemake calls."""
    with contextlib.chdir(folder):
        jobs = load_study("smoke").jobs()
    names = [("train", job.phase, job.dataset, job.backbone, job.arm) for job in jobs]
    (dataset,) = {job.dataset for job in jobs}
    commands = [
        ("prepare", dataset),
        *((*own, "--tier", "smoke") for own in (("split", dataset), *names)),
        *((*own, "--tier", "smoke") for own in (("evaluate", dataset), ("results",))),
    ]
    starts = [partial(killed.domain_experts_in, folder, *command) for command in commands]
    return [Asked(start, 1.0, 15.0, ("group",)) for start in starts]


class Killer:
    """Kills studies, at moments and in ways that a generator draws."""

    def __init__(self, draws: random.Random) -> None:
        self.draws, self.fuse = draws, killed.Fuse()
        self.fuse.place()

    def once(self, asked: Asked) -> tuple[killed.Command, dict[str, Any] | None]:
        """Run a command once; what was done to it, or nothing if it ended before."""
        number = self.draws.choice(SIGNALS)
        if self.draws.random() < 0.5:
            return self._in_a_write(asked, number)
        whom = self.draws.choice(asked.whom)
        # keepers of jobs leave interrupts to the jobs
        return self._at_a_time(asked, signal.SIGKILL if whom == "any" else number, whom)

    def _in_a_write(
        self, asked: Asked, number: signal.Signals
    ) -> tuple[killed.Command, dict[str, Any] | None]:
        group = self.draws.random() < 0.5
        self.fuse.light(1 + int(self.draws.expovariate(1 / asked.steps)), number, group)
        began = time.monotonic()
        command = asked.start()
        while command.running() and self.fuse.went_off is None:
            time.sleep(0.01)
        if self.fuse.went_off is None:
            self.fuse.put_out()
            return command, None
        seconds = time.monotonic() - began
        whom = "group" if group else "job"
        return command, _kill(number, whom, self.fuse.went_off, seconds)

    def _at_a_time(
        self, asked: Asked, number: signal.Signals, whom: str
    ) -> tuple[killed.Command, dict[str, Any] | None]:
        wait = self.draws.expovariate(1 / asked.seconds)
        began = time.monotonic()
        command = asked.start()
        while command.running():
            if time.monotonic() - began > wait and self._send(command, number, whom):
                return command, _kill(number, whom, ANY_MOMENT, time.monotonic() - began)
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


def until_done(killer: Killer, folder: Path, asked: Asked) -> Iterator[dict[str, Any]]:
    """Kill and resume a command until it ends; yields each kill and the state that it left.

    Raises:
        SystemExit: a command failed that should not.
    """
    while True:
        command, kill = killer.once(asked)
        status = command.wait()
        if kill is None:
            if status:
                sys.exit(f"a command failed in {folder}:\n{command.said()[-5000:]}")
            return
        locked, refused = _unlock(folder, command)
        command.deserted()
        finished = len([*folder.glob("artifacts/smoke/**/runs.json")])
        unfinished = len([*folder.glob(".runs/*/checkpoint*")])
        yield kill | {
            "status": status,
            "locked": locked,
            "unlock_refused": refused,
            "jobs_finished": finished,
            "checkpoints": unfinished,
            "damage": "" if kill["moment"] == ANY_MOMENT else _damage(folder),
        }


def _damage(folder: Path) -> str:
    """Whether `domain-experts check` finds some: yes or no."""
    return "yes" if killed.domain_experts_in(folder, "check", "--tier", "smoke").wait() else "no"


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


def whole_study(work: Path, epochs: int) -> tuple[Path, dict[Path, bytes]]:
    """A project that is yet to be run, and the bytes of one that nothing happened to."""
    fresh = work / "fresh"
    project = make_smallest(fresh)
    end_forks()
    given = project.params()["tiers"]["smoke"]["set"]
    own = {"training.max_epochs": epochs, "training.patience": epochs}
    project.set("tiers.smoke.set", given | own)
    folder = work / "whole"
    shutil.copytree(fresh, folder)
    command = killed.snakemake_in(folder, *EVALUATED)
    if command.wait():
        sys.exit(command.said())
    return fresh, determined(folder)


def kill_studies(work: Path, number: int, seed: int) -> None:
    """Add to kills.csv until it has at least that many, each study to its end."""
    killer, file = Killer(random.Random(seed)), RESULTS / "kills.csv"
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    fresh, whole = whole_study(work, EPOCHS)
    study = rows[-1]["study"] if rows else 0
    while len(rows) < number:
        study += 1
        folder = work / f"study {study}"
        shutil.copytree(fresh, folder)
        way = by_snakemake if study % 3 == 0 else by_commands
        kills = (kill for asked in way(folder) for kill in until_done(killer, folder, asked))
        own = []
        for kill in kills:
            own.append({"study": study, "way": way.__name__, "kill": len(own) + 1} | kill)
            print(own[-1], flush=True)
        apart = different(whole, determined(folder))
        print(f"study {study}: {len(own)} kills, {apart or 'equal bytes'}", flush=True)
        rows += [row | {"equal": not apart} for row in own]
        RESULTS.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(file, index=False, lineterminator="\n")
        if not apart:
            shutil.rmtree(folder)
        else:
            print(f"kept: {folder}", *apart, sep="\n")


class Faults:
    """Faults on projects below a folder, and what became of each."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.fresh, self.whole = whole_study(work, epochs=2)
        self.prepared = self._copy("prepared", self.fresh)
        self._well(killed.snakemake_in(self.prepared, "--", "split"))
        self.rows: list[dict[str, Any]] = []

    def _copy(self, name: str, source: Path) -> Path:
        folder = self.work / name
        if folder.exists() and not os.path.ismount(folder):
            shutil.rmtree(folder)
        sockets = shutil.ignore_patterns("*.sock")
        shutil.copytree(source, folder, ignore=sockets, dirs_exist_ok=True)
        folder.with_suffix(".log").unlink(missing_ok=True)
        return folder

    def _well(self, command: killed.Command) -> None:
        if command.wait():
            sys.exit(command.said()[-5000:])
        command.deserted()

    def _keep(
        self,
        fault: str,
        of: str,
        command: killed.Command,
        folder: Path,
        mend: Mend = None,
        again: tuple[str, ...] = (),
    ) -> None:
        """Note how a command ended; mend the fault, run it again, and compare its end.

        Again is run a `domain-experts` command, which makes a part, or else the whole study.
        """
        status = command.wait()
        command.deserted()
        said = command.said()
        if mend:
            mend()
        _unlock(folder, command)
        command.output.unlink()
        if again:
            mended = killed.domain_experts_in(folder, *again)
        else:
            mended = killed.snakemake_in(folder, *EVALUATED)
        ended = mended.wait()
        mended.deserted()
        found = determined(folder)
        whole = {path: own for path, own in self.whole.items() if path in found or not again}
        apart = different(whole, found) if ended == 0 else ["no end"]
        row = {
            "fault": fault,
            "of": of,
            "status": status,
            "said": self._message(said, folder),
            "traceback": "Traceback" in said,
            "resumed": ended == 0,
            "equal": not apart,
        }
        self.rows.append(row)
        print(row, *apart, flush=True)
        if apart or row["traceback"]:
            print(said[-3000:], mended.said()[-3000:], sep="\n-- again --\n", flush=True)
        RESULTS.mkdir(parents=True, exist_ok=True)
        rows = pd.DataFrame(self.rows)
        rows.to_csv(RESULTS / "faults.csv", index=False, lineterminator="\n")

    def _message(self, said: str, folder: Path) -> str:
        """A line that names an error, without the paths of this machine."""
        said = said.replace(f"{folder}/", "").replace(str(folder), ".")
        # Snakemake says in the next line what its exception is
        lines = said.replace("Exception:\n", "Exception: ").splitlines()
        marks = (
            "error:",
            "DAMAGED",
            "can be written",
            "from the future",
            "Exception",
            "[Errno",
            "Error",
        )
        found = (line.strip() for mark in marks for line in lines if mark in line)
        return next(found, "")

    def full_disk(self) -> None:
        """A file system of its own that has room for a part of the study."""
        size = _kilobytes(self.fresh)
        for room in (60, 200, 350, 500):
            folder = self.work / "disk"
            folder.mkdir(exist_ok=True)
            _mount("-t", "tmpfs", "-o", f"size={size + room}k", "tmpfs", folder)
            try:
                self._copy("disk", self.fresh)
                command = killed.snakemake_in(folder, *EVALUATED)
                more = partial(_mount, "-o", "remount,size=200m", folder)
                self._keep("full disk", f"{room} kB are free", command, folder, more)
            finally:
                _unmount(folder)

    def quota(self) -> None:
        """Files may not be larger than a limit."""
        for limit in (1_000, 20_000, 50_000):
            folder = self._copy("quota", self.fresh)
            limits = (limit, limit)
            before = partial(resource.setrlimit, resource.RLIMIT_FSIZE, limits)
            command = killed.snakemake_in(folder, *EVALUATED, before=before)
            self._keep("file size limit", f"{limit} B", command, folder)

    def read_only(self) -> None:
        """A folder of the project on a file system that cannot be written."""
        for name in ("artifacts", ".runs", "results", ".snakemake", "."):
            folder = self._copy("read-only", self.prepared)
            own = folder / name
            own.mkdir(exist_ok=True)
            _mount("--bind", own, own)
            _mount("-o", "remount,bind,ro", own)
            try:
                command = killed.snakemake_in(folder, *EVALUATED)
                command.wait()
                command.deserted()
            finally:
                _unmount(own)
            self._keep("read-only folder", name, command, folder)

    def broken_disk(self) -> None:
        """Reading one file fails."""
        finished = self._copy("finished", self.work / "whole")
        half = self._copy("half", self.prepared)
        _until_checkpoint(half)
        train = ("train", "backbones", "planted-small", "mlp", "base", "--tier", "smoke")
        evaluate = ("evaluate", "planted-small", "--tier", "smoke")
        base = "artifacts/smoke/backbones/planted-small/mlp/base"
        for source, part, asked in (
            (self.prepared, "params.yaml", train),
            (self.prepared, "planted-small/card.json", train),
            (self.prepared, "planted-small/labels.npy", train),
            (self.prepared, "planted-small/fields.npy", train),
            (self.prepared, "smoke/planted-small/splits.json", train),
            (self.prepared, "smoke/planted-small/seed=2022.npy", train),
            (half, "/checkpoint.safetensors", train),
            (finished, "/files.json", train),
            (finished, "/model.safetensors", train),
            (finished, f"{base}/runs.json", evaluate),
            (finished, f"{base}/default/seed=2022/record.json", evaluate),
            (finished, f"{base}/default/seed=2022/test.npy", evaluate),
            (finished, "evaluated/planted-small/results.parquet", ("results", "--tier", "smoke")),
            (finished, "results/smoke/results.parquet", ("tables", "--tier", "smoke")),
            (finished, "results/smoke/results.parquet", ("check", "--tier", "smoke")),
            (finished, "planted-small/labels.npy", ("check", "--tier", "smoke")),
        ):
            folder = self._copy("broken", source)
            before = partial(os.environ.__setitem__, "FAULTS_EIO", part)
            command = killed.domain_experts_in(folder, *asked, before=before)
            self._keep("EIO on read", f"{part} ({asked[0]})", command, folder, again=asked)

    def clock(self) -> None:
        """Files of a half-made study come from tomorrow, or the clock goes wrong amidst it."""
        for what, shift in (("a day ahead, then right", DAY), ("a day behind, then right", -DAY)):
            folder = self._copy("clock", self.fresh)
            # what Python reads; a file's time is the kernel's
            clock = partial(_shift_clock, shift)
            self._well(killed.snakemake_in(folder, "--", "experts", before=clock))
            for path in (folder, *folder.rglob("*")):
                status = path.lstat()
                times = (status.st_atime + shift, status.st_mtime + shift)
                os.utime(path, times, follow_symlinks=False)
            command = killed.snakemake_in(folder, *EVALUATED)
            self._keep("clock", what, command, folder, partial(_touch_future, folder))

    def stale_lock(self) -> None:
        """The machine stops while a job runs; after the start its process numbers are others'."""
        folder = self._copy("stale", self.prepared)
        _until_checkpoint(folder)
        moved = self._copy("rebooted", folder)
        for holder in moved.glob(".runs/*/holder"):
            holder.write_text(f"process {os.getpid()}")
        self._keep(
            "locks after a reboot", "of Snakemake", killed.snakemake_in(moved, *EVALUATED), moved
        )

    def two_users(self) -> None:
        """Two commands on one folder at the same time."""
        for what, options in (("snakemake twice", ()), ("snakemake --nolock twice", ("--nolock",))):
            folder = self._copy("shared", self.prepared)
            first = killed.snakemake_in(folder, *options, *EVALUATED)
            while first.running() and not [*folder.glob(".runs/*/holder")]:
                time.sleep(0.01)
            second = killed.snakemake_in(folder, *options, *EVALUATED, log=self.work / "second.log")
            status = second.wait()
            said = second.said()
            first.wait()
            first.deserted()
            first.output.write_text(first.said() + said)
            self._keep("two users", f"{what} (second: status {status})", first, folder)
            second.output.unlink()


def _until_checkpoint(folder: Path) -> None:
    """Kill a study that has its data as soon as a run has been saved."""
    command = killed.snakemake_in(folder)
    while not [*folder.glob(".runs/*/checkpoint*")]:
        if not command.running():
            sys.exit(f"no checkpoint: {command.said()[-5000:]}")
        time.sleep(0.002)
    os.killpg(command.pid, signal.SIGKILL)
    command.wait()
    command.deserted()


def _touch_future(folder: Path) -> None:
    """What the workflow says that mends it."""
    command = "find data artifacts results -newermt now -exec touch {} +"
    subprocess.run(command, shell=True, cwd=folder, check=False, stderr=subprocess.DEVNULL)


def _shift_clock(seconds: float) -> None:
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)


def _kilobytes(folder: Path) -> int:
    """What a folder takes on a file system of pages of 4 kB."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(-(-path.stat().st_size // 4096) * 4 for path in files)


def _mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def try_faults(work: Path) -> None:
    """Write faults.csv."""
    on = Faults(work)
    for fault in FAULTS:
        fault(on)


FAULTS = (
    Faults.full_disk,
    Faults.quota,
    Faults.read_only,
    Faults.clock,
    Faults.stale_lock,
    Faults.two_users,
    Faults.broken_disk,
)


def with_broken_disks() -> None:
    """Start this script anew with reads that can be made to fail."""
    if SHIM in os.environ.get("LD_PRELOAD", ""):
        return
    library = Path(tempfile.mkdtemp(prefix="faults-")) / SHIM
    source = Path(__file__).with_name("eio.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    os.execve(sys.executable, sys.orig_argv, os.environ | {"LD_PRELOAD": str(library)})


def main() -> None:
    """The trials that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("trials", nargs="*", choices=["kills", "faults"], default=["kills"])
    parser.add_argument("--number", type=int, default=200, help="kills, at least")
    parser.add_argument("--seed", type=int, default=1, help="of what is killed when")
    asked = parser.parse_args()
    if "faults" in asked.trials:
        with_broken_disks()
    killed.prepare()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        work = Path(folder).resolve()
        if "faults" in asked.trials:
            try_faults(work / "faults")
        if "kills" in asked.trials:
            kill_studies(work / "kills", asked.number, asked.seed)


if __name__ == "__main__":
    main()
