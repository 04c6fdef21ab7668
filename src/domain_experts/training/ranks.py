"""The processes (ranks) that train one run together, and all that they exchange.

Every rank holds the whole model and draws the same batches from the same streams. Of a batch it
takes its part of the rows; the ranks' gradients add up to that of the whole batch, so that all take
the same step. torch's DistributedDataParallel does not fit: it averages over ranks, whatever their
rows, needs the same parameters in all steps, where a leg trains some of them, and has sparse
gradients with gloo alone.

What is exchanged are numbers and JSON, never pickled objects.
"""

import heapq
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from domain_experts.errors import UserError

# lanes of different ranks end at different times; the connection to a dead rank closes at once
WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """One of `size` ranks, this one being number `rank`; the first leads."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    """Where what is exchanged lies."""

    @property
    def leads(self) -> bool:
        """Whether this rank writes files, decides and speaks."""
        return self.rank == 0

    def part(self, rows: int) -> slice:
        """The part of so many rows that is this rank's.

        One without any takes the first row, so that it has gradients of the same kind as others;
        `whole` leaves that row out.
        """
        start, end = self._bounds(rows)[self.rank : self.rank + 2]
        return slice(start, end) if start < end else slice(0, 1)

    def share(self, sizes: Sequence[int]) -> list[int]:
        """The rank that does each of several tasks of these sizes; the largest are dealt first."""
        loads = [(0, rank) for rank in range(self.size)]
        owner = [0] * len(sizes)
        for task in sorted(range(len(sizes)), key=lambda t: -sizes[t]):
            load, rank = heapq.heappop(loads)
            owner[task] = rank
            heapq.heappush(loads, (load + sizes[task], rank))
        return owner

    def whole(self, own: Tensor, rows: int) -> Tensor:
        """All ranks' parts of a tensor (rows, ...); gradients flow into this rank's alone."""
        if self.size == 1:
            return own
        counts = np.diff(self._bounds(rows)).tolist()
        own = own[: counts[self.rank]]
        parts = self._gathered(own.detach(), counts)
        parts[self.rank] = own
        return torch.cat(parts)

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Give every parameter the sum of the ranks' gradients; none where no rank has one.

        A gradient is sparse on all ranks or on none. Of sparse ones only the rows that are there
        are exchanged.
        """
        if self.size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        sparse = [p for p in trained if p.grad is not None and p.grad.is_sparse]
        self._add_sparse(sparse)
        rest = {id(p) for p in sparse}
        self._add_dense([p for p in trained if id(p) not in rest])

    def decided(self, decide: Callable[[], float]) -> float:
        """What the first rank decides."""
        if self.size == 1:
            return decide()
        value = torch.tensor(decide() if self.leads else 0.0, dtype=torch.float64)
        value = value.to(self.device)
        with _exchange():
            dist.broadcast(value, 0)
        return value.item()

    def told(self, value: Any) -> list[Any]:
        """What each rank tells the others: JSON."""
        if self.size == 1:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).copy()
        own = torch.from_numpy(text).to(self.device)
        parts = self._gathered(own, self._counts([len(own)])[:, 0].tolist())
        return [json.loads(part.cpu().numpy().tobytes()) for part in parts]

    def hand_out(self, tensors: Sequence[Tensor], source: int) -> None:
        """Overwrite tensors, all of one type, with those of one rank."""
        if not tensors or self.size == 1:
            return
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        with _exchange():
            dist.broadcast(flat, source)
        for tensor, values in zip(tensors, _taken_apart(flat, tensors), strict=True):
            tensor.detach().copy_(values)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self.decided(lambda: 0.0)

    def _bounds(self, rows: int) -> list[int]:
        return [rows * rank // self.size for rank in range(self.size + 1)]

    def _counts(self, own: Sequence[int]) -> Tensor:
        """Some numbers of each rank, (size, n)."""
        mine = torch.tensor(own, dtype=torch.int64, device=self.device)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        with _exchange():
            dist.all_gather(found, mine)
        return torch.stack(found).cpu()

    def _gathered(self, own: Tensor, counts: Sequence[int]) -> list[Tensor]:
        """The tensors (counts[rank], ...) of all ranks."""
        # all that are gathered must be as long
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in range(self.size)]
        with _exchange():
            dist.all_gather(found, padded)
        return [part[:count] for part, count in zip(found, counts, strict=True)]

    def _add_dense(self, parameters: Sequence[nn.Parameter]) -> None:
        if not parameters:
            return
        there = [float(p.grad is not None) for p in parameters]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([*(g.flatten() for g in grads), grads[0].new_tensor(there)])
        with _exchange():
            dist.all_reduce(flat)
        if not all(there):
            there = flat[-len(there) :].tolist()
        sums = _taken_apart(flat, parameters)
        for p, grad, ranks in zip(parameters, sums, there, strict=True):
            p.grad = grad if ranks else None

    def _add_sparse(self, parameters: Sequence[nn.Parameter]) -> None:
        if not parameters:
            return
        # rows that a rank has often are sent once
        own = [p.grad.coalesce() for p in parameters if p.grad is not None]
        counts = self._counts([len(grad.values()) for grad in own])
        ids = self._gathered(torch.cat([g.indices()[0] for g in own]), counts.sum(1).tolist())
        widths = torch.tensor([p.shape[1] for p in parameters])
        flat = torch.cat([grad.values().flatten() for grad in own])
        values = self._gathered(flat, (counts * widths).sum(1).tolist())
        of_rank = [
            (torch.split(i, n.tolist()), torch.split(v, (n * widths).tolist()))
            for i, v, n in zip(ids, values, counts, strict=True)
        ]
        for number, p in enumerate(parameters):
            rows = torch.cat([i[number] for i, _ in of_rank]).unsqueeze(0)
            sums = torch.cat([v[number] for _, v in of_rank]).view(-1, p.shape[1])
            p.grad = torch.sparse_coo_tensor(rows, sums, p.shape, check_invariants=False)


ALONE = Ranks()


@contextmanager
def joined(size: int, device: str) -> Iterator[Ranks]:
    """One of the `size` ranks that a launcher such as torchrun has started, as which this goes on.

    They exchange by gloo on CPUs and by NCCL on GPUs, of which each has one.

    Raises:
        UserError: later, as soon as another rank is found to have ended.
    """
    if size == 1:
        yield ALONE
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    with _exchange():
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=WAIT)
    yield Ranks(dist.get_rank(), size, device)
    # after an error the others may not come to this point
    dist.destroy_process_group()


@contextmanager
def _exchange() -> Iterator[None]:
    """Say in words that another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            "another process that trains this run together with this one has ended, or cannot be "
            f"reached ({str(error).split('. ')[0]}); run again: the run goes on from its last "
            "checkpoint"
        ) from None


def _taken_apart(flat: Tensor, like: Sequence[Tensor]) -> Iterator[Tensor]:
    """The first entries of a vector, in the shapes of other tensors."""
    start = 0
    for tensor in like:
        end = start + tensor.numel()
        yield flat[start:end].view(tensor.shape)
        start = end
