"""One training by two processes, each on half of every batch, against one process on all of it.

Wall time says what is gained where both cores are idle otherwise. CPU time, of the busiest process,
says what other programs on the machine cannot blur: what two processes still do twice (masks, the
moves of the optimiser) and what the exchange costs; waiting is not in it.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
import torch

from benchmarks.backbones import NINE
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.ours import Loop
from benchmarks.results import OURS, Measurement, amounts, throughput
from benchmarks.study import settings
from benchmarks.timing import in_turns
from domain_experts.data.interactions import Interactions
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.training.memory import keep_freed_memory
from domain_experts.training.ranks import joined

ONE = "one process"
PROCESSES = 2
OPTIMIZERS = ("adam", "lazy_adam")
MODELS = ("wdl", "dcn")
BATCHES = (4096, 16384)
ROWS = 49_152


def measure(effort: Effort) -> Iterator[Measurement]:
    """Rows per second of wall time, and CPU seconds of the busiest process."""
    data = rows_like_movielens(ROWS, NINE.fields)
    for model, optimizer, batch in product(MODELS, OPTIMIZERS, BATCHES):
        sizes = {OURS: PROCESSES, ONE: 1}
        groups = {n: Group(size, data, model, optimizer, batch) for n, size in sizes.items()}
        cpu: dict[str, list[float]] = {n: [] for n in groups}
        work = {n: partial(_epoch, group, cpu[n]) for n, group in groups.items()}
        seconds = in_turns(work, effort.rounds)
        for group in groups.values():
            group.close()
        name = f"{model}, {optimizer}, batch {batch}"
        yield from throughput("training together", name, seconds, ROWS, batch, 1)
        # the first turn warms up
        busiest = {n: own[1:] for n, own in cpu.items()}
        yield from amounts("training together, CPU", name, "s", busiest, 1, ROWS)


def _epoch(group: "Group", busiest: list[float]) -> None:
    busiest.append(max(group.epoch()))


class Group:
    """Processes with one thread each that train one model together."""

    def __init__(
        self, size: int, data: Interactions, model: str, optimizer: str, batch: int
    ) -> None:
        with socket.socket() as found:
            found.bind(("localhost", 0))
            port = found.getsockname()[1]
        context = get_context("spawn")
        self._lines: list[Connection] = []
        self._processes = []
        for rank in range(size):
            line, far = context.Pipe()
            self._lines.append(line)
            arguments = (far, rank, size, port, data, model, optimizer, batch)
            self._processes.append(context.Process(target=_serve, args=arguments, daemon=True))
            self._processes[-1].start()
            far.close()

    def epoch(self) -> list[float]:
        """Train one epoch; CPU seconds of each process."""
        for line in self._lines:
            line.send("epoch")
        return [line.recv() for line in self._lines]

    def close(self) -> None:
        """End the processes."""
        for line in self._lines:
            line.close()
        for process in self._processes:
            process.join()


def new_loop(data: Interactions, model: str, optimizer: str, batch: int) -> Loop:
    """The training of a model with the study's settings, dropout included."""
    changed = {
        "training.batch_size": batch,
        "training.optimizer": optimizer,
        "model.embedding_dim": NINE.dim,
    }
    own = settings("base", "ml-1m-gender", model, changed)
    made = build(model, CTRContext(data.schema, own.model, torch.Generator().manual_seed(0)))
    return Loop(made, data, own, decay=2 * own.model.l2)


def _serve(
    line: Connection,
    rank: int,
    size: int,
    port: int,
    data: Interactions,
    model: str,
    optimizer: str,
    batch: int,
) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="localhost", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    keep_freed_memory()
    with joined(size, "cpu") as ranks:
        loop = new_loop(data, model, optimizer, batch)
        loop.ranks = ranks
        rows = np.arange(len(data.domain))
        while _is_asked(line.recv):
            start = time.process_time()
            loop.epoch(rows)
            line.send(time.process_time() - start)


def _is_asked(receive: Callable[[], str]) -> bool:
    """Whether another epoch is asked for."""
    try:
        receive()
    except EOFError:
        return False
    return True
