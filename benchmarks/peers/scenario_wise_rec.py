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

from collections.abc import Sequence

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

DOMAIN = "domain_indicator"
"""What the models read a row's domain from."""


def build(job: Job) -> nn.Module:
    """The library's model of a job."""
    own, schema = job.settings.multi_model, job.data.schema
    domains, dim = len(schema.domains), own.embedding_dim
    fields = [SparseFeature(name, size, dim) for name, size in schema.fields]
    scenario = [SparseFeature(DOMAIN, domains, dim)]
    width, inputs = own.hidden[-1], dim * len(fields)
    layers, tower = {"dims": list(own.hidden)}, {"dims": [width]}
    made: nn.Module
    match job.model:
        case "shared_bottom":
            made = multi_domain.SharedBottom(fields, domains, layers, tower)
        case "mmoe":
            made = multi_domain.MMOE(fields, domains, own.mmoe.experts, layers, tower)
        case "ple":
            numbers = own.ple.levels, own.ple.specific_experts, own.ple.shared_experts
            made = multi_domain.PLE(fields, domains, *numbers, layers, tower)
        case "star":
            hidden = list(job.settings.model.hidden)
            made = multi_domain.Star(fields, domains, hidden, hidden[-1:])
        case "sarnet":
            numbers = own.sarnet.shared_experts, own.sarnet.domain_experts
            made = multi_domain.Sarnet(fields, domains, *numbers)
            widths = [own.sarnet.expert_hidden, width]
            made.shared_expert = experts(numbers[0], inputs, widths)
            each = (experts(numbers[1], inputs, widths) for _ in range(domains))
            made.domain_specific_expert = nn.ModuleList(each)
            made.final_mlp = MLP(width, **tower)
        case "m2m":
            depth = own.m2m.encoder_layers
            made = multi_domain.M2M(
                fields + scenario,
                scenario,
                domains,
                own.m2m.experts,
                width,
                {
                    "num_encoder_layers": depth,
                    "num_decoder_layers": depth,
                    "dim_feedforward": own.m2m.feedforward,
                },
            )
            made.output_mlp = nn.Linear(width, 1)
        case "adasparse":
            pruned = own.adasparse
            options = {"dims": list(pruned.hidden), "activation": "relu", "dropout": 0}
            factors = pruned.threshold, pruned.scale, pruned.alpha, pruned.alpha_growth
            made = multi_domain.AdaSparse(scenario, fields, options, "Fusion", *factors)
        case "adaptdhm":
            hidden, clusters = list(own.adaptdhm.hidden), own.adaptdhm.clusters
            made = multi_domain.AdaptDHM(fields, hidden, clusters, own.adaptdhm.momentum, "cpu")
        case "epnet":
            made = multi_domain.EPNet(scenario, fields, [])
            made.gatenu = GateNU(dim + inputs, inputs, own.pepnet.gate_hidden)
            made.mlp = MLP(inputs, dims=list(own.pepnet.hidden))
        case "ppnet":
            users_and_items = [f for f in fields if f.name in ("user", "item")]
            hidden = list(own.pepnet.hidden)
            made = multi_domain.PPNet(users_and_items, fields, domains, hidden)
            known = dim * len(users_and_items) + inputs
            for block in made.domain_tower:
                block.gate_layers = nn.ModuleList(
                    GateNU(known, o, own.pepnet.gate_hidden) for o in hidden
                )
        case "hamur":
            hamur = own.hamur
            sizes = list(hamur.hidden), [hamur.hyper_hidden], hamur.rank
            made = multi_domain.HamurLarge(fields, domains, *sizes)
        case "m3oe":
            sizes = list(own.hidden), own.m3oe.shared_experts
            made = multi_domain.M3oE(fields, domains, *sizes, exp_d=1, exp_t=1, bal_d=1, bal_t=1)
        case other:
            raise ValueError(f"no model '{other}'")
    return made


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
