"""All models against the peers: training step, whole epoch, evaluation, and what they learn."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import process, study
from benchmarks.booths import Booth, booths
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.peers.base import Job, contestants
from benchmarks.results import Measurement, throughput
from benchmarks.timing import Work, in_turns
from domain_experts.auc import macro_auc
from domain_experts.data.interactions import Interactions
from domain_experts.models import autoint
from domain_experts.registry import BACKBONES

CTR = tuple(name for name, own in BACKBONES.items() if own.family == "ctr")
MULTI_TASK = ("mmoe", "ple")
SLOW = 20_000
"""Rows per second of a step, below which epochs have fewer rows."""
HELD_OUT = 0.2
RATE = 0.004
"""Learning rate: with the study's, two epochs of so large batches would still show the start."""
EPOCHS = 2
PROCESS_ROUNDS = 2


@dataclass(frozen=True)
class Shape:
    """Of a data set: its fields, the embeddings' width, and the batch."""

    name: str
    fields: tuple[str, ...]
    dim: int
    batch: int


NINE = Shape(
    "9 fields",
    ("user", "item", "gender", "age", "occupation", "zip", "genre", "year", "domain"),
    dim=16,
    batch=4096,
)
THREE = Shape("3 fields", ("user", "item", "domain"), dim=8, batch=1024)


def job(
    model: str,
    shape: Shape,
    data: Interactions,
    train: int,
    held_out: int = 0,
    replaced: Mapping[str, Any] | None = None,
) -> Job:
    """The first rows of a data set, for a model without dropout and penalties.

    Args:
        model: a CTR model, or one of several tasks.
        shape: of the data.
        data: at least so many rows.
        train: number of rows to be trained on.
        held_out: number of rows to be predicted.
        replaced: dotted settings with values of their own.
    """
    # the peer's attention is as wide as its embeddings
    dim = autoint.HEADS * autoint.HEAD_WIDTH if model == "autoint" else shape.dim
    changed: dict[str, Any] = {"training.batch_size": shape.batch, "training.learning_rate": RATE}
    arm, dataset = ("base", "ml-1m-gender") if model in CTR else ("mdmt", "ml-1m-m3oe")
    if model in CTR:
        changed |= {"model.embedding_dim": dim, "model.dropout": 0.0}
    settings = study.settings(arm, dataset, model, {**changed, **(replaced or {})})
    return Job(model, data, np.arange(train), np.arange(train, train + held_out), settings)


def with_held_out(model: str, shape: Shape, data: Interactions, rows: int) -> Job:
    """The same with a fifth of the rows held out."""
    held_out = int(HELD_OUT * rows)
    return job(model, shape, data, rows - held_out, held_out)


def measure(effort: Effort) -> Iterator[Measurement]:
    """Both shapes: of nine fields all, of three fields the step; the multi-task models."""
    yield from compare(NINE, CTR, effort, epochs=True)
    yield from compare(THREE, CTR, effort, epochs=effort.full)
    yield from compare(NINE, MULTI_TASK, effort, epochs=effort.full)


def processes(effort: Effort) -> Iterator[Measurement]:
    """Whole processes of all contestants."""
    data = rows_like_movielens(effort.rows, NINE.fields)
    for model in CTR if effort.full else ("deepfm",):
        own = with_held_out(model, NINE, data, effort.rows)
        yield from process.measure(own, f"{model}, {NINE.name}", PROCESS_ROUNDS, effort.threads)


def compare(
    shape: Shape, models: tuple[str, ...], effort: Effort, epochs: bool
) -> Iterator[Measurement]:
    """Times of every model, by the package and the installed peers that have it.

    Args:
        shape: of the data.
        models: CTR models, or such of several tasks.
        effort: how much.
        epochs: measure epochs, evaluation and quality too, not the training step alone.
    """
    several = set(models) <= set(MULTI_TASK)
    domains, tasks = (1, 2) if several else (2, 1)
    data = rows_like_movielens(effort.rows, shape.fields, domains=domains, tasks=tasks)
    for model in models:
        own = with_held_out(model, shape, data, effort.rows)
        name = f"{model}, {shape.name}{' and 2 tasks' if several else ''}"
        names = contestants(model)
        with booths(dict(zip(names, names, strict=True)), effort.threads) as entered:
            steps = _steps(entered, own, name, effort)
            yield from steps
            if epochs:
                slow = min(m.value for m in steps) < SLOW
                fewer = with_held_out(model, shape, data, min(effort.slow_rows, effort.rows))
                yield from _epochs(entered, fewer if slow else own, name, effort)


def _steps(entered: Mapping[str, Booth], own: Job, name: str, effort: Effort) -> list[Measurement]:
    _enter(entered, own)
    # as many rows a turn whatever the batch
    steps = effort.steps * NINE.batch // own.batch
    work = {c: partial(booth.ask, "steps", steps) for c, booth in entered.items()}
    seconds = in_turns(work, effort.rounds)
    rows = steps * len(own.first)
    return throughput("training step", name, seconds, rows, own.batch, effort.threads)


def _epochs(
    entered: Mapping[str, Booth], own: Job, name: str, effort: Effort
) -> Iterator[Measurement]:
    """Epochs of new models, evaluation, and the AUC that they reach."""
    _enter(entered, own)
    epochs: dict[str, Work] = {c: partial(b.ask, "epoch") for c, b in entered.items()}
    seconds = in_turns(epochs, EPOCHS, warm_up=0)
    yield from throughput("epoch", name, seconds, len(own.train), own.batch, effort.threads)
    predict: dict[str, Work] = {c: partial(b.ask, "predict") for c, b in entered.items()}
    seconds = in_turns(predict, effort.rounds)
    yield from throughput("evaluation", name, seconds, len(own.held_out), own.batch, effort.threads)
    labels = np.asarray(own.data.labels)[own.held_out]
    one = np.zeros(len(labels), np.int64)
    for contestant, booth in entered.items():
        scores = booth.ask("predict").reshape(labels.shape)
        auc = macro_auc(scores, labels, one, 1)
        yield Measurement(
            "quality", name, contestant, "AUC", auc, auc, auc,
            rounds=EPOCHS, rows=len(own.train), batch=own.batch, threads=effort.threads,
        )  # fmt: skip


def _enter(entered: Mapping[str, Booth], own: Job) -> None:
    for booth in entered.values():
        booth.enter(own)
