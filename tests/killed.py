"""Studies that are killed: Snakemake, its jobs' server and its jobs, all forks of this process.

They are the processes that a user's `snakemake` makes, in a group of their own, with the same
Snakefile and commands; only what they import, torch and Snakemake, they have from this process.
What is patched here is patched in all of them: that is how a kill gets into the midst of a write.
"""

import contextlib
import mmap
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import psutil
import snakemake.cli
from commands import load

from domain_experts import cli, files, forks
from domain_experts.training import checkpoint, store

WAIT = 180
"""Seconds after which what still runs is said to hang."""
RENAMED = ("before a rename", "after a rename")
SYNCHRONISED = ("before synchronising", "after synchronising")
HALF = "within a file, half of it written"


class Fuse:
    """Kills a process of a study at the n-th step of writing that its processes take together.

    Its numbers lie in memory that all forks share: steps that are left (0: it is out), signal,
    whether it is for the whole group, and the step at which it went off.
    """

    STEPS = (*SYNCHRONISED, *RENAMED, HALF)

    def __init__(self) -> None:
        self._shared = memoryview(mmap.mmap(-1, 4 * 8)).cast("q")

    def place(self) -> None:
        """Put it into the writing of this process and its forks."""
        sync, move = files._to_disk, Path.replace

        def synchronised(path: Path) -> None:
            if path.name.startswith(files.TEMPORARY) and path.is_file():
                self._step(HALF, path)
            self._step(SYNCHRONISED[0], path)
            sync(path)
            self._step(SYNCHRONISED[1], path)

        def replaced(path: Path, target: Path) -> Path:
            self._step(RENAMED[0], path)
            found = move(path, target)
            self._step(RENAMED[1], path)
            return found

        files._to_disk, Path.replace = synchronised, replaced

    def light(self, steps: int, number: int, group: bool) -> None:
        self._shared[:4] = memoryview(bytearray(32)).cast("q")
        self._shared[1], self._shared[2], self._shared[3] = number, group, -1
        self._shared[0] = steps

    def put_out(self) -> None:
        self._shared[0] = 0

    @property
    def went_off(self) -> str | None:
        """The step at which it did."""
        return self.STEPS[self._shared[3]] if self._shared[0] < 0 else None

    def _step(self, name: str, path: Path) -> None:
        if self._shared[0] <= 0:
            return
        self._shared[0] -= 1
        if self._shared[0] > 0:
            return
        self._shared[0], self._shared[3] = -1, self.STEPS.index(name)
        number = int(self._shared[1])
        if name == HALF:
            os.truncate(path, path.stat().st_size // 2)
        if self._shared[2]:
            os.killpg(0, number)
        else:
            os.kill(os.getpid(), number)
        # an interrupt is raised soon, other signals end this here
        time.sleep(0.01)


def prepare() -> None:
    """Import all that the forks need, and have runs saved after every epoch."""
    load()
    forks._load = lambda: None
    checkpoint.SECONDS_BETWEEN = 0.0
    os.environ["OMP_NUM_THREADS"] = "1"


@dataclass(frozen=True)
class Command:
    """A command that runs in a folder, as the leader of a session of its own."""

    pid: int
    output: Path

    def wait(self) -> int:
        """Its exit status, as a shell gives it.

        Raises:
            TimeoutError: it hangs.
        """
        end = time.monotonic() + WAIT
        while self.running():
            if time.monotonic() > end:
                raise TimeoutError(f"{self.pid} hangs: {self.said()[-3000:]}")
            time.sleep(0.02)
        # left as it is: its number is nobody else's, and this can be asked again
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert ended
        own = ended.si_code == os.CLD_EXITED
        return ended.si_status if own else 128 + ended.si_status

    def running(self) -> bool:
        return not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def session(self) -> list[psutil.Process]:
        """All of its processes that are alive."""
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                if os.getsid(pid) == self.pid:
                    process = psutil.Process(pid)
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def jobs(self) -> list[psutil.Process]:
        """The forks that do what `domain-experts` was called for."""
        found, here = [], psutil.Process().cmdline()
        for process in self.session():
            with contextlib.suppress(psutil.NoSuchProcess):
                ancestors = [parent.pid for parent in process.parents()]
                # this process -> Snakemake -> server -> the fork's keeper -> the fork
                if ancestors[2:4] == [self.pid, os.getpid()] and process.cmdline() == here:
                    found.append(process)
        return found

    def deserted(self) -> None:
        """Wait until the last of its processes has ended.

        Raises:
            TimeoutError: one hangs.
        """
        end = time.monotonic() + WAIT
        while left := self.session():
            if time.monotonic() > end:
                raise TimeoutError(f"{[p.cmdline() for p in left]} hang")
            time.sleep(0.02)


Before = Callable[[], object] | None
"""What runs first in the process of a command."""


def snakemake_in(
    folder: Path, *arguments: str, before: Before = None, log: Path | None = None
) -> Command:
    """Start `snakemake --config tier=smoke` in a project, whose log is beside it."""

    def command() -> None:
        # a workflow of few jobs has no server: they load for themselves, which takes longest here
        address = Path(f".snakemake/forks-{platform.node()}-{os.getpid()}.sock")
        address.parent.mkdir(exist_ok=True)
        _serve(address)
        forks.start = lambda path: None
        _snakemake("--cores", "2", "--config", "tier=smoke", *arguments)

    return _forked(folder, command, before, log)


def domain_experts_in(folder: Path, *arguments: str, before: Before = None) -> Command:
    """Start a `domain-experts` command in a project."""

    def command() -> None:
        # `unlock` calls Snakemake, which takes seconds to import
        store.subprocess = SimpleNamespace(run=_snakemake_beside)
        sys.argv = ["domain-experts", *arguments]
        cli.main()

    return _forked(folder, command, before)


def _forked(
    folder: Path, command: Callable[[], None], before: Before, log: Path | None = None
) -> Command:
    output = log or folder.with_suffix(".log")
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        streams = (os.open(os.devnull, os.O_RDONLY), *[_log(output)] * 2)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        bin_folder = Path(sys.executable).parent
        os.environ["PATH"] = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        if before:
            before()
        forks._end_with(command)
    return Command(pid, output)


def _log(output: Path) -> int:
    return os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)


def _serve(address: Path) -> None:
    """Fork a server of jobs, whose standard input closes with this process."""
    read, write = os.pipe()
    server = os.fork()
    if server == 0:
        os.close(write)
        os.dup2(read, 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        try:
            forks.serve(address)
        except OSError:
            os._exit(1)
        # a fork of it: a command
        forks._end_with(cli.main)
    os.close(read)
    # it ends where no socket can be made
    while not address.is_socket() and os.waitpid(server, os.WNOHANG) == (0, 0):
        time.sleep(0.005)


def _snakemake(*arguments: str) -> None:
    sys.argv = ["snakemake", *arguments]
    sys.exit(snakemake.cli.main())


def _snakemake_beside(command: list[str], check: bool) -> None:
    """`subprocess.run` of `python -m snakemake ...`, as a fork."""
    pid = os.fork()
    if pid == 0:
        forks._end_with(lambda: _snakemake(*command[3:]))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if check and status:
        raise subprocess.CalledProcessError(status, command)
