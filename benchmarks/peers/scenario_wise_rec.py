"""Scenario-Wise-Rec: models and trainer as they are, at the sizes of the package's models.

It is in no package index: `pip install git+https://github.com/Xiaopengli1/Scenario-Wise-Rec`. Its
models serve several domains and one task; most compute all domains for all rows, and choose.

Where a model sets a size by itself, that part is made again of the library's own layers: EPNet's
tower (its constructor takes the widths for something else, and leaves one linear layer), what gates
are wide inside, SAR-Net's experts and M2M's output. HAMUR is the one with seven layers, since the
other has one adapter. What stays different:

- BatchNorm stands where LayerNorm is here, and none in AdaptDHM, which has no biases either.
- PPNet has a tower a domain, and feeds it what the gates see.
- STAR has a BatchNorm a domain after each layer too.
- M2M attends from each row of a batch to all others, generates weights a row, not a domain, and has
  a decoder.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scenario_wise_rec.basic.features import SparseFeature
from scenario_wise_rec.basic.layers import MLP, GateNU
from scenario_wise_rec.models import multi_domain
from scenario_wise_rec.trainers import CTRTrainer
from scenario_wise_rec.utils.data import PredictDataset, TorchDataset
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.peers.base import Job
from domain_experts.models.multi.settings import MultiModelSettings

DOMAIN = "domain_indicator"
"""What the models read a row's domain from."""


class Parts(NamedTuple):
    """What models of a job are built from."""

    own: MultiModelSettings
    hidden: list[int]
    """Of the models of one domain."""
    domains: int
    fields: list[Any]
    scenario: list[Any]

    @property
    def layers(self) -> dict[str, Any]:
        return {"dims": list(self.own.hidden)}

    @property
    def tower(self) -> dict[str, Any]:
        return {"dims": [self.own.hidden[-1]]}

    @property
    def inputs(self) -> int:
        """Width of all fields."""
        return self.own.embedding_dim * len(self.fields)


def build(job: Job) -> nn.Module:
    """The library's model of a job."""
    own, schema = job.settings.multi_model, job.data.schema
    domains, dim = len(schema.domains), own.embedding_dim
    fields = [SparseFeature(name, size, dim) for name, size in schema.fields]
    scenario = [SparseFeature(DOMAIN, domains, dim)]
    parts = Parts(own, list(job.settings.model.hidden), domains, fields, scenario)
    made: nn.Module = MODELS[job.model](parts)
    return made


def star(p: Parts) -> Any:
    """Its partitioned norm, star layers and auxiliary network."""
    return multi_domain.Star(p.fields, p.domains, p.hidden, p.hidden[-1:])


def shared_bottom(p: Parts) -> Any:
    """A tower a domain."""
    return multi_domain.SharedBottom(p.fields, p.domains, p.layers, p.tower)


def mmoe(p: Parts) -> Any:
    """A gate and a tower a domain."""
    return multi_domain.MMOE(p.fields, p.domains, p.own.mmoe.experts, p.layers, p.tower)


def ple(p: Parts) -> Any:
    """Experts, a gate and a tower a domain."""
    own = p.own.ple
    numbers = own.levels, own.specific_experts, own.shared_experts
    return multi_domain.PLE(p.fields, p.domains, *numbers, p.layers, p.tower)


def m3oe(p: Parts) -> Any:
    """Without experts of tasks: there is one task."""
    sizes = p.layers["dims"], p.own.m3oe.shared_experts
    return multi_domain.M3oE(p.fields, p.domains, *sizes, exp_d=1, exp_t=1, bal_d=1, bal_t=1)


def m2m(p: Parts) -> Any:
    """Its output layer is one, as here."""
    own, width = p.own.m2m, p.own.hidden[-1]
    transformer = {
        "num_encoder_layers": own.encoder_layers,
        "num_decoder_layers": own.encoder_layers,
        "dim_feedforward": own.feedforward,
    }
    fields = p.fields + p.scenario
    made = multi_domain.M2M(fields, p.scenario, p.domains, own.experts, width, transformer)
    made.output_mlp = nn.Linear(width, 1)
    return made


def sarnet(p: Parts) -> Any:
    """Experts and tower as wide as here; its own are 16 wide."""
    own, width = p.own.sarnet, p.own.hidden[-1]
    made = multi_domain.Sarnet(p.fields, p.domains, own.shared_experts, own.domain_experts)
    widths = [own.expert_hidden, width]
    made.shared_expert = experts(own.shared_experts, p.inputs, widths)
    made.domain_specific_expert = nn.ModuleList(
        experts(own.domain_experts, p.inputs, widths) for _ in range(p.domains)
    )
    made.final_mlp = MLP(width, **p.tower)
    return made


def adasparse(p: Parts) -> Any:
    """Fused factors."""
    own = p.own.adasparse
    options = {"dims": list(own.hidden), "activation": "relu", "dropout": 0}
    factors = own.threshold, own.scale, own.alpha, own.alpha_growth
    return multi_domain.AdaSparse(p.scenario, p.fields, options, "Fusion", *factors)


def adaptdhm(p: Parts) -> Any:
    """Star layers of clusters."""
    own = p.own.adaptdhm
    return multi_domain.AdaptDHM(p.fields, list(own.hidden), own.clusters, own.momentum, "cpu")


def epnet(p: Parts) -> Any:
    """Tower and gate as wide as here."""
    own = p.own.pepnet
    made = multi_domain.EPNet(p.scenario, p.fields, [])
    made.gatenu = GateNU(p.own.embedding_dim + p.inputs, p.inputs, own.gate_hidden)
    made.mlp = MLP(p.inputs, dims=list(own.hidden))
    return made


def ppnet(p: Parts) -> Any:
    """Gates as wide inside as here."""
    own, hidden = p.own.pepnet, list(p.own.pepnet.hidden)
    people = [field for field in p.fields if field.name in ("user", "item")]
    made = multi_domain.PPNet(people, p.fields, p.domains, hidden)
    known = p.own.embedding_dim * len(people) + p.inputs
    for block in made.domain_tower:
        block.gate_layers = nn.ModuleList(GateNU(known, o, own.gate_hidden) for o in hidden)
    return made


def hamur(p: Parts) -> Any:
    """Seven layers and two adapters a domain."""
    own = p.own.hamur
    sizes = list(own.hidden), [own.hyper_hidden], own.rank
    return multi_domain.HamurLarge(p.fields, p.domains, *sizes)


MODELS: Mapping[str, Callable[[Parts], Any]] = {
    own.__name__: own
    for own in (
        *(star, shared_bottom, mmoe, ple, m3oe, m2m, sarnet, adasparse),
        *(adaptdhm, epnet, ppnet, hamur),
    )
}


def experts(count: int, d_in: int, widths: Sequence[int]) -> nn.ModuleList:
    """So many networks of the library's layers."""
    return nn.ModuleList(MLP(d_in, output_layer=False, dims=list(widths)) for _ in range(count))


class Entrant:
    """A model with the library's trainer."""

    def __init__(self, job: Job) -> None:
        self.model = build(job)
        rate = job.settings.training.learning_rate
        self.trainer = CTRTrainer(self.model, "bench", optimizer_params={"lr": rate})
        train = TorchDataset(columns(job, job.train), job.labels(job.train))
        self.train = DataLoader(train, job.batch, shuffle=True)
        self.held_out = DataLoader(PredictDataset(columns(job, job.held_out)), job.batch)
        first = columns(job, job.first)
        self.batch = (
            {name: torch.from_numpy(own) for name, own in first.items()},
            torch.from_numpy(job.labels(job.first)),
        )

    def steps(self, count: int) -> None:
        self.trainer.train_one_epoch([self.batch] * count)

    def epoch(self) -> None:
        self.trainer.train_one_epoch(self.train)

    @torch.no_grad()
    def predict(self) -> np.ndarray:
        # the trainer's own `predict` asks for labels
        self.model.eval()
        parts: list[Tensor] = [self.model(inputs) for inputs in self.held_out]
        return torch.cat(parts).numpy()


def columns(job: Job, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Codes by field, and the domain."""
    domain = np.asarray(job.data.domain)[rows].astype(np.int64)
    return {**job.columns(rows), DOMAIN: domain}
