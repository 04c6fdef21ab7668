"""The experts phase: all experts side by side, one after another, and MLoRA's epoch."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.backbones import THREE
from benchmarks.data import rows_like_movielens
from benchmarks.effort import Effort
from benchmarks.ours import Loop
from benchmarks.results import OURS, Measurement, throughput
from benchmarks.study import settings
from benchmarks.timing import Work, in_turns
from domain_experts.data.interactions import Interactions
from domain_experts.models.build import build
from domain_experts.models.ctr import CTRContext, CTRModel
from domain_experts.models.low_rank import LowRank
from domain_experts.models.routers import Gate, OneHot
from domain_experts.settings import RunSettings
from domain_experts.training.deep import expert_of, is_expert
from domain_experts.training.lanes import Lane

ONE_BY_ONE = "one expert after another"
MLORA = "MLoRA"
BATCHES = (256, 1024)
BACKBONE = "wdl"
PER_DOMAIN = (1, 2, 4)


def measure(effort: Effort) -> Iterator[Measurement]:
    """An epoch of all experts over the rows of all domains, three ways."""
    for domains in effort.domains:
        for batch in BATCHES:
            phases = Phases(effort.slow_rows, domains, batch)
            work: dict[str, Work] = {
                OURS: phases.experts().side_by_side,
                ONE_BY_ONE: phases.experts().one_by_one,
                MLORA: partial(phases.mlora().epoch, phases.rows),
            }
            name = f"{BACKBONE}, {domains} domains, batch {batch}"
            seconds = in_turns(work, effort.rounds)
            rows = effort.slow_rows
            yield from throughput("experts phase", name, seconds, rows, batch, effort.threads)


def growth(effort: Effort) -> Iterator[Measurement]:
    """Rows a second of the experts and the gate phase, as domains and experts grow."""
    batch = THREE.batch
    cases = [(domains, 1) for domains in effort.growing_domains]
    cases += [(effort.domains[0], k) for k in PER_DOMAIN]
    for domains, per_domain in dict.fromkeys(cases):
        phases = Phases(effort.slow_rows, domains, batch)
        work: dict[str, Work] = {
            "experts phase": phases.experts(per_domain).side_by_side,
            "gate phase": partial(phases.gate(per_domain).epoch, phases.rows),
        }
        seconds = in_turns(work, effort.rounds)
        name = f"{BACKBONE}, {domains} domains x {per_domain} experts"
        for phase, own in seconds.items():
            rows = effort.slow_rows * (per_domain if phase == "experts phase" else 1)
            found = throughput(f"growth, {phase}", name, {OURS: own}, rows, batch, effort.threads)
            yield from found


@dataclass(frozen=True)
class Experts:
    """A loop that trains experts, and the lane of each."""

    loop: Loop
    lanes: list[Lane]

    def side_by_side(self) -> None:
        """One epoch of all."""
        self.loop.side_by_side(self.lanes)

    def one_by_one(self) -> None:
        """One epoch of each."""
        for lane in self.lanes:
            self.loop.side_by_side([lane])


class Phases:
    """The phases of MoE-MLoRA on generated rows, as the study has them."""

    def __init__(self, rows: int, domains: int, batch: int) -> None:
        changed = {"training.batch_size": batch}
        self.settings: RunSettings = settings("experts", "ml-1m-gender", BACKBONE, changed)
        self.data: Interactions = rows_like_movielens(rows, THREE.fields, domains=domains)
        self.domains, self.rows = domains, np.arange(rows)

    def model(self, experts: int) -> CTRModel:
        """The backbone with experts."""
        generator = torch.Generator().manual_seed(0)
        model = build(BACKBONE, CTRContext(self.data.schema, self.settings.model, generator))
        init, alpha = self.settings.protocol.expert_init, self.settings.adapter.alpha
        for _ in range(experts):
            model.tower.add_expert(partial(LowRank, alpha=alpha, init=init), generator)
        return model

    def experts(self, per_domain: int = 1) -> Experts:
        """An expert sees the rows of its domain."""
        model = self.model(self.domains * per_domain)
        own: list[dict[str, nn.Parameter]] = [{} for _ in range(model.experts)]
        for name, parameter in model.named_parameters():
            if is_expert(name):
                own[expert_of(name)][name] = parameter
        domain = np.asarray(self.data.domain)
        lanes = [
            Lane(str(i), self.rows[domain == i % self.domains], self.rows[:0], parameters, i)
            for i, parameters in enumerate(own)
        ]
        trained = {name: p for parameters in own for name, p in parameters.items()}
        return Experts(self._loop(model, trained), lanes)

    def mlora(self) -> Loop:
        """MLoRA: all weights together."""
        model = self.model(self.domains)
        model.router = OneHot(range(self.domains))
        return self._loop(model, dict(model.named_parameters()))

    def gate(self, per_domain: int = 1) -> Loop:
        """The gate alone."""
        model = self.model(self.domains * per_domain)
        generator = torch.Generator().manual_seed(1)
        gate = Gate(self.domains, model.experts, self.settings.gate.dim, generator)
        model.router = gate
        return self._loop(model, {f"router.{name}": p for name, p in gate.named_parameters()})

    def _loop(self, model: CTRModel, trained: dict[str, nn.Parameter]) -> Loop:
        decay = 2 * self.settings.model.l2
        return Loop(model, self.data, self.settings, decay, parameters=trained)
