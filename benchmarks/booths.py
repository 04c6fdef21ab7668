"""Contestants in processes of their own: each with its library and its memory as it comes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from multiprocessing import get_context
from multiprocessing.connection import Connection
from os import devnull
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.base import Job, enter
from benchmarks.results import OURS
from domain_experts.training.memory import keep_freed_memory


class Booth:
    """A process with one contestant at a time."""

    def __init__(self, name: str, threads: int) -> None:
        context = get_context("spawn")
        self._line, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, name, threads), daemon=True)
        self._process.start()
        # the process has its own; with this one open, its death would go unnoticed
        far.close()

    def enter(self, job: Job) -> None:
        """Make a new contestant for a job."""
        self.ask("enter", job)

    def ask(self, method: str, *arguments: object) -> Any:
        """What a method of the contestant gives.

        Raises:
            EOFError, BrokenPipeError: the process failed; it has said why.
        """
        self._line.send((method, arguments))
        return self._line.recv()

    def close(self) -> None:
        """End the process."""
        self._line.close()
        self._process.join()


@contextmanager
def booths(contestants: Mapping[str, str], threads: int) -> Iterator[dict[str, Booth]]:
    """Booths by label, each with the contestant of that label."""
    opened = {label: Booth(name, threads) for label, name in contestants.items()}
    try:
        yield opened
    finally:
        for booth in opened.values():
            booth.close()


def as_it_comes(name: str, threads: int) -> None:
    """Set a process up as the contestant's own training does."""
    torch.set_num_threads(threads)
    if name == OURS:
        keep_freed_memory()


def _serve(line: Connection, name: str, threads: int) -> None:
    as_it_comes(name, threads)
    # steps learn one batch by heart; to go on with what is left, numbers close to zero, is slow
    torch.set_flush_denormal(True)
    contestant: Any = None
    # some libraries print each step
    with Path(devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        while True:
            try:
                method, arguments = line.recv()
            except EOFError:
                return
            if method == "enter":
                contestant, found = enter(name, *arguments), None
            else:
                found = getattr(contestant, method)(*arguments)
            line.send(found)
