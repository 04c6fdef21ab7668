"""Small trainings in process: runs of the smoke tier with tiny models, on generated data."""

import dataclasses
import itertools
import json
from functools import cache, partial

import numpy as np
import plain_yaml

from domain_experts.data.interactions import Interactions
from domain_experts.data.planted import generate
from domain_experts.data.specs import Fractions, Planted
from domain_experts.data.split_rules import stratified
from domain_experts.models.low_rank import LowRank
from domain_experts.params import Params, load
from domain_experts.registry import ARMS, BACKBONES, NO_BACKBONE
from domain_experts.schema import Schema
from domain_experts.study import Study
from domain_experts.training.assignment import Assignment, Outcome, Upstream
from domain_experts.training.checkpoint import SECONDS_BETWEEN, Checkpoint, Timer
from domain_experts.training.job import record_of
from domain_experts.training.progress import Progress

CTR_BACKBONES = [name for name, backbone in BACKBONES.items() if backbone.family == "ctr"]
CTR_ARMS = [name for name, arm in ARMS.items() if arm.family == "ctr"]
MULTI_ARMS = [name for name, arm in ARMS.items() if arm.family == "multi"]
SET = {
    "model.hidden": [16, 8],
    "model.embedding_dim": 4,
    "star.embedding_dim": 4,
    "training.max_epochs": 3,
    "training.batch_size": 64,
    "adapter.alpha": 4,
    "multi_model.embedding_dim": 4,
    "multi_model.hidden": [16, 8, 8, 4],
    "multi_model.autoifs.hidden": [12, 8],
    "multi_model.autoifs.domain_width": 6,
    "multi_model.autoifs.search_epochs": 3,
    "multi_model.autoifs.rewind": 2,
    "multi_model.autoifs.batch_size": 64,
}


def low_rank(alpha, init, times=1):
    """Maker of low-rank experts."""
    return partial(LowRank, alpha=alpha, init=init, times=times)


@cache
def params() -> Params:
    """params.yaml: to read it takes longer than some of the trainings."""
    return load(plain_yaml.PARAMS)


@cache
def study_of(tier) -> Study:
    """The study of params.yaml, only to be read."""
    return Study(params(), tier)


def study(**changed) -> Study:
    """The smoke tier, with small models."""
    values = params().model_dump()
    values["tiers"]["smoke"]["set"] = SET | changed
    return Study(Params.model_validate(values), "smoke")


def small_data() -> Interactions:
    """Three ragged domains of two planted groups."""
    spec = Planted(
        source="planted", seed=3, rows=2400, users=50, items=30, domains=3, groups=2, latent_dim=3,
        common=0.5, strength=2.0, sparsity=0.5, skew=0.6, positive_rate=0.35,
    )  # fmt: skip
    return generate(spec)


def multi_data() -> Interactions:
    """The same with a second task, whose positives are few, and a dense feature."""
    data = small_data()
    rng = np.random.default_rng(4)
    age = rng.random((len(data.domain), 1), np.float32)
    like = data.labels & (rng.random(age.shape) < 0.2 + 0.6 * age)
    schema = Schema(data.schema.fields, ("age",), data.schema.domains, ("click", "like"))
    labels = np.concatenate([data.labels, like], 1)
    return dataclasses.replace(data, schema=schema, dense=age, labels=labels, truth=None)


def make_assignment(
    folder, data, arm, backbone="mlp", upstream=None, variant=(), **changed
) -> Assignment:
    """Assignment of an arm, its upstream arms trained first unless they are given.

    Its clock has every epoch saved.
    """
    backbone = backbone if ARMS[arm].backbone else NO_BACKBONE
    run = study(**changed)._run("planted-small", backbone, arm, variant, 1)
    if upstream is None:
        upstream = {}
        for name in needs(arm):
            assignment = make_assignment(folder, data, name, backbone, upstream, **changed)
            upstream[name] = finished(assignment)
    split = stratified(data, run.split_seed, Fractions(0.2, 0.2))
    own = folder / f"{arm}-{len(list(folder.iterdir()))}"
    own.mkdir()
    clock = itertools.count(step=SECONDS_BETWEEN)
    checkpoint = Checkpoint(own / "checkpoint.safetensors", "k", Timer(clock.__next__))
    return Assignment(run, data, split, upstream, "cpu", checkpoint, Progress("t"))


def needs(arm) -> list[str]:
    """The arms that an arm starts from, and theirs first."""
    found = itertools.chain(*([*needs(name), name] for name in ARMS[arm].needs))
    return list(dict.fromkeys(found))


def finished(assignment) -> Upstream:
    """A trained run for others to start from."""
    made = train(assignment)
    return Upstream(made.state, json.loads(json.dumps(record_of(assignment, made))))


def train(assignment: Assignment) -> Outcome:
    """Run the arm's trainer."""
    return assignment.run.spec.train(assignment)
