"""Models that serve several domains, at the sizes of another library's: a training step.

Beside the speed stand each one's parameters, and the operations of a step's products, as torch
counts them: where two do the same products, no way to write them makes one twice as fast.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import study
from benchmarks.backbones import RATE
from benchmarks.booths import booths
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.machine import SIZE, product
from benchmarks.peers.base import Job, contestants, enter
from benchmarks.results import OURS, Measurement, amounts, throughput
from benchmarks.timing import Work, in_turns

FIELDS = ("user", "item", "gender", "occupation", "zip", "genre", "domain")
DOMAINS, BATCH, DIM = 3, 4096, 16
SIZES: dict[str, dict[str, Any]] = {
    "star": {"model.embedding_dim": DIM},
    "shared_bottom": {},
    "mmoe": {},
    "ple": {},
    # one task has one expert of tasks, which the other library leaves out
    "m3oe": {"multi_model.m3oe.task_module": False},
    "m2m": {"multi_model.m2m.scenario_dim": 64, "multi_model.m2m.tower_layers": 1},
    "sarnet": {},
    "adasparse": {},
    "adaptdhm": {},
    "epnet": {},
    "ppnet": {},
    # the other library's with two adapters has seven layers
    "hamur": {"multi_model.hamur.hidden": [256, 256, 128, 128, 128, 64, 64]},
}
"""The models, and what is not as in the study so that both libraries' sizes are the same."""
FLOOR = "arithmetic"


def job(model: str, batch: int) -> Job:
    """The rows of one batch, for a model without dropout and penalties."""
    data = rows_like_movielens(batch, FIELDS, "age", domains=DOMAINS)
    arm, dataset = "mdmt", "ml-1m-m3oe"
    backbone = model
    if model == "star":
        arm, dataset, backbone = "base", "ml-1m-gender", "mlp"
    changed = {"training.batch_size": batch, "training.learning_rate": RATE, **SIZES[model]}
    settings = study.settings(arm, dataset, backbone, changed)
    return Job(model, data, np.arange(batch), np.arange(0), settings)


def measure(effort: Effort) -> Iterator[Measurement]:
    """Rows a second, parameters, and operations of a step, of every model."""
    for model in SIZES:
        own, name = job(model, BATCH), f"{model}, {DOMAINS} domains"
        names = contestants(model, several_domains=True)
        sizes = {contestant: size(contestant, own) for contestant in names}
        for number, unit in enumerate(("parameters", "GFLOP a step")):
            found = {contestant: [each[number]] for contestant, each in sizes.items()}
            yield from amounts(f"multi-domain, {unit}", name, unit, found, effort.threads)
        with booths(dict(zip(names, names, strict=True)), effort.threads) as entered:
            for booth in entered.values():
                booth.enter(own)
            work: dict[str, Work] = {c: partial(b.ask, "steps", 1) for c, b in entered.items()}
            seconds = in_turns(work | {"product": product()}, effort.rounds)
        # so long would the package's products take at the speed of this round's large one
        share = 1e9 * sizes[OURS][1] / (2 * SIZE**3)
        seconds[FLOOR] = [share * one for one in seconds.pop("product")]
        yield from throughput("training step", name, seconds, own.batch, own.batch, effort.threads)


def size(contestant: str, own: Job) -> tuple[float, float]:
    """Parameters of a contestant's model, and 10^9 operations of the products of a step."""
    entrant = enter(contestant, own)
    with FlopCounterMode(display=False) as counter:
        entrant.steps(1)
    parameters = sum(p.numel() for p in entrant.model.parameters())
    return float(parameters), counter.get_total_flops() / 1e9
