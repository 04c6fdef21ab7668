"""What there is besides training: to draw and gather batches, and to validate after an epoch."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from benchmarks.backbones import NINE, THREE, with_held_out
from benchmarks.booths import as_it_comes
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.ours import Entrant
from benchmarks.results import OURS, Measurement, amounts
from benchmarks.timing import Work, in_turns
from domain_experts.auc import macro_auc
from domain_experts.training.batches import Rows, mixed

MODELS = ("wdl", "deepfm")
PER_CENT = "% of an epoch's training"


def measure(effort: Effort) -> Iterator[Measurement]:
    """Percent of the training of an epoch, by round. The process then keeps freed memory."""
    as_it_comes(OURS, effort.threads)
    for shape in (NINE, THREE):
        data = rows_like_movielens(effort.slow_rows, shape.fields, domains=2)
        for model in MODELS:
            entrant = Entrant(with_held_out(model, shape, data, effort.slow_rows))
            work: dict[str, Work] = {
                "training": entrant.epoch,
                "batches": partial(load, entrant),
                "validation": partial(validate, entrant),
            }
            seconds = in_turns(work, effort.rounds)
            whole = seconds.pop("training")
            for part, own in seconds.items():
                shares = [100 * s / w for s, w in zip(own, whole, strict=True)]
                name = f"{part}, {model}, {shape.name}"
                yield from amounts("shares", name, PER_CENT, {OURS: shares}, effort.threads)


def load(entrant: Entrant) -> None:
    """The batches of an epoch."""
    rows: Rows = entrant.loop.rows
    for batch in mixed(entrant.job.train, entrant.job.batch, np.random.default_rng(0)):
        rows.take(torch.from_numpy(batch))


def validate(entrant: Entrant) -> float:
    """Logits and macro AUC of the held-out rows, a quarter of the training rows."""
    data, rows = entrant.job.data, entrant.job.held_out
    labels = np.asarray(data.labels)[rows]
    scores = entrant.predict().reshape(labels.shape)
    return macro_auc(scores, labels, np.asarray(data.domain)[rows], len(data.schema.domains))
