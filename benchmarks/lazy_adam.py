"""Lazy Adam against Adam: time of a step as ids grow, and the AUC that both reach."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from scipy.stats import ttest_1samp

from benchmarks.backbones import THREE
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.ours import Loop
from benchmarks.results import Measurement, amounts
from benchmarks.study import settings
from benchmarks.timing import in_turns
from domain_experts.auc import macro_auc
from domain_experts.data.interactions import Interactions
from domain_experts.data.planted import generate
from domain_experts.data.specs import Planted
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext
from domain_experts.training.lanes import Lane
from domain_experts.training.memory import keep_freed_memory

OPTIMIZERS = ("adam", "lazy_adam")
IDS = (10**5, 10**6, 10**7)
BATCH, STEPS = 4096, 10
BACKBONE = "wdl"
SEEDS = range(20)
ROWS = 60_000


def measure(effort: Effort) -> Iterator[Measurement]:
    """CPU time of a step for growing vocabularies; then AUC on planted data over seeds."""
    keep_freed_memory()
    for ids in IDS:
        data = rows_of_ids(ids)
        rows = np.arange(BATCH * STEPS)
        loops = {name: new_loop(data, name, BATCH) for name in OPTIMIZERS}
        work = {name: partial(loop.epoch, rows) for name, loop in loops.items()}
        seconds = in_turns(work, effort.rounds, clock=time.process_time)
        steps = {name: [1000 * s / STEPS for s in own] for name, own in seconds.items()}
        yield from amounts("lazy Adam, step", f"{ids:.0e} ids", "ms", steps, effort.threads, BATCH)
    found: dict[str, list[float]] = {name: [] for name in OPTIMIZERS}
    for seed in SEEDS:
        for name, own in found.items():
            own.append(auc(seed, name))
    yield from amounts("lazy Adam, AUC", "planted", "AUC", found, effort.threads, ROWS)
    yield parity(found["lazy_adam"], found["adam"], effort.threads)


def parity(lazy: Sequence[float], dense: Sequence[float], threads: int) -> Measurement:
    """Mean of the paired differences over seeds, with its interval of 95 % by Student's t."""
    difference = np.subtract(lazy, dense)
    interval = ttest_1samp(difference, 0).confidence_interval()
    return Measurement(
        benchmark="lazy Adam, AUC",
        model="planted",
        contestant="lazy_adam - adam (mean, 95 % interval)",
        unit="AUC",
        value=float(difference.mean()),
        lower=float(interval.low),
        upper=float(interval.high),
        rounds=len(difference),
        rows=ROWS,
        threads=threads,
    )


def rows_of_ids(ids: int) -> Interactions:
    """Rows whose users are drawn from so many, all alike."""
    data = rows_like_movielens(BATCH * STEPS, THREE.fields)
    fields = np.array(data.fields)
    user = THREE.fields.index("user")
    fields[:, user] = np.random.default_rng(1).integers(ids, size=len(fields))
    sizes = dict(data.schema.fields) | {"user": ids}
    return replace(data, fields=fields, schema=replace(data.schema, fields=tuple(sizes.items())))


def new_loop(data: Interactions, optimizer: str, batch: int, seed: int = 0) -> Loop:
    """The backbone's training."""
    changed = {"training.batch_size": batch, "training.optimizer": optimizer}
    own = settings("base", "ml-1m-gender", BACKBONE, changed)
    generator = torch.Generator().manual_seed(seed)
    model = build(BACKBONE, CTRContext(data.schema, own.model, generator))
    return Loop(model, data, own, decay=2 * own.model.l2)


def auc(seed: int, optimizer: str) -> float:
    """Test AUC, the mean over domains, after early stopping on validation rows."""
    spec = Planted(
        source="planted", seed=seed, rows=ROWS, users=10_000, items=3_000, domains=4, groups=2,
        latent_dim=4, common=1.0, strength=1.0, sparsity=0.8, skew=0.8, positive_rate=0.3,
    )  # fmt: skip
    data = generate(spec)
    train, validation, test = np.split(
        np.random.default_rng(seed).permutation(ROWS), [ROWS * 6 // 10, ROWS * 8 // 10]
    )
    loop = new_loop(data, optimizer, 1024, seed)
    loop.leg("bench", [Lane("all", train, validation, loop.parameters)])
    scores = loop.logits(test).numpy()
    return macro_auc(scores, data.labels[test], data.domain[test], spec.domains)
