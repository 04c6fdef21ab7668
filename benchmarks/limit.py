"""How near a training step comes to the matrix products in it.

Two limits, both timed in the same rounds as the step. `its matrix products`: those of the tower,
forward and backward, one after another and nothing else. `arithmetic`: all products of the model,
as torch counts them, at the speed of one product of large matrices.
"""

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.backbones import CTR, NINE, job
from benchmarks.booths import as_it_comes
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.machine import SIZE, product
from benchmarks.ours import Entrant
from benchmarks.results import OURS, Measurement, throughput
from benchmarks.timing import Work, in_turns

CHAIN = "its matrix products"
FLOOR = "arithmetic"
PURE = ("mlp", "wdl", "deepfm", "pnn")
"""Models whose products are those of the tower."""


def measure(effort: Effort) -> Iterator[Measurement]:
    """The `ratio` of a limit is the part of it that the package reaches.

    The process then keeps freed memory as training does, for the limits too.
    """
    as_it_comes(OURS, effort.threads)
    for model in CTR:
        data = rows_like_movielens(NINE.batch, NINE.fields)
        entrant = Entrant(job(model, NINE, data, train=NINE.batch))
        work: dict[str, Work] = {OURS: partial(entrant.steps, 1), "product": product()}
        if model in PURE:
            work[CHAIN] = Chain(entrant).run
        seconds = in_turns(work, effort.rounds)
        # so long would the model's products take at the speed of this round's large one
        share = flops(entrant) / (2 * SIZE**3)
        seconds[FLOOR] = [share * one for one in seconds.pop("product")]
        yield from throughput(
            "limit", f"{model}, {NINE.name}", seconds, NINE.batch, NINE.batch, effort.threads
        )


class Chain:
    """The products of a tower's forward and backward pass, from its input to the logit."""

    def __init__(self, entrant: Entrant) -> None:
        model = entrant.loop.model
        tower_input = model.tower_input()  # type: ignore[operator]
        hidden = entrant.job.settings.model.hidden
        rows = entrant.job.batch
        self.layers = [
            (torch.randn(rows, i), torch.randn(i, o), torch.randn(rows, o))
            for i, o in pairwise([int(tower_input), *hidden, 1])
        ]

    def run(self) -> None:
        """Each layer's y = x W, and the gradients of W and x."""
        for x, W, _ in self.layers:
            torch.mm(x, W)
        for x, W, g in reversed(self.layers):
            torch.mm(x.T, g)
            torch.mm(g, W.T)


def flops(entrant: Entrant) -> int:
    """Floating point operations of the products of one step."""
    with FlopCounterMode(display=False) as counter:
        entrant.steps(1)
    return int(counter.get_total_flops())
