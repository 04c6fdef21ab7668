"""M3oE against the literal formulation: a training step, and evaluation."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.m3oe_literal import LiteralM3oE
from benchmarks.ours import Loop
from benchmarks.results import OURS, Measurement, throughput
from benchmarks.study import settings
from benchmarks.timing import Work, in_turns
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.m3oe import Model
from domain_experts.training.losses import balanced

LITERAL = "literal formulation"
FIELDS = ("user", "item", "gender", "occupation", "zip", "genre", "domain")
TOLERANCE = 1e-4


class Literal:
    """The literal model with torch's Adam class, on given rows as one batch."""

    def __init__(self, model: LiteralM3oE, rate: float, decay: float, rows: list[Tensor]) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
        self.fields, self.dense, self.domain, self.labels = rows

    def step(self) -> float:
        """Forward, loss, backward, Adam."""
        found = self.model(self.fields, self.dense, self.domain)
        loss = self.model.loss(found, self.labels, self.domain)
        self.model.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self) -> Tensor:
        """Probabilities (B, T)."""
        found: Tensor = self.model(self.fields, self.dense, self.domain)
        return found


def measure(effort: Effort, batch: int | None = None) -> Iterator[Measurement]:
    """Rows per second of both, with the same weights.

    Args:
        effort: how often each runs.
        batch: rows; None: as in the study.

    Raises:
        AssertionError: the two do not give the same logits.
    """
    chosen = settings("mdmt", "ml-1m-m3oe", "m3oe")
    batch = batch or chosen.training.batch_size
    training = chosen.training.model_copy(update={"batch_size": batch})
    chosen = chosen.model_copy(update={"training": training})
    data = rows_like_movielens(batch, FIELDS, "age", domains=3, tasks=2, dense=1)
    generator = torch.Generator().manual_seed(0)
    start = chosen.protocol.start
    model = Model(MultiContext(data.schema, chosen.multi_model, generator, fusion_start=start))
    index = np.arange(batch)
    decay = chosen.multi_model.weight_decay
    loop = Loop(model, data, chosen, decay, balanced)
    rows = list(loop.rows.take(torch.from_numpy(index)))
    literal = Literal(LiteralM3oE(model), training.learning_rate, decay, rows)
    _same_logits(loop, literal, index)
    pairs: dict[str, dict[str, Work]] = {
        "evaluation": {OURS: lambda: loop.logits(index), LITERAL: literal.evaluate},
        "training step": {OURS: lambda: loop.epoch(index), LITERAL: literal.step},
    }
    for name, contestants in pairs.items():
        seconds = in_turns(contestants, effort.rounds)
        yield from throughput(name, "m3oe", seconds, batch, batch, effort.threads)


@torch.no_grad()
def _same_logits(loop: Loop, literal: Literal, index: np.ndarray) -> None:
    expected = literal.model.logits(literal.fields, literal.dense, literal.domain)
    torch.testing.assert_close(loop.logits(index), expected, rtol=0, atol=TOLERANCE)
