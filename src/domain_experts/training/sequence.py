"""MoE-MLoRA in one sequence: backbone, one expert after another, gate.

Under the protocol `described` it gives what the arms `base`, `experts` and `moe_mlora` give
together. Under `released` it is what the public code in effect computes (moe_mlora, as run on TF
1.12): the gate stays uniform and nothing freezes, so that one model with an averaged sum of
adapters is trained on all rows, then on one domain after another, then on all rows again. Each
switch of the protocol changes one of the differences.
"""

from dataclasses import replace

import numpy as np
from torch import nn

from domain_experts.models.adapter import PLAIN
from domain_experts.models.routers import UniformGate
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.deep import (
    add_experts,
    expert_of,
    new_gate,
    new_model,
    new_trainer,
    outcome,
    part_of,
    whole_lane,
)
from domain_experts.training.frozen import can_select


def train(assignment: Assignment) -> Outcome:
    """Train in E + 2 legs."""
    protocol = assignment.settings.protocol
    domains = len(assignment.interactions.schema.domains)
    experts = domains * assignment.settings.adapter.experts_per_domain
    uniform = protocol.routing == "uniform"
    model = new_model(assignment)
    add_experts(model, assignment, experts)
    model.router = UniformGate(domains, experts) if uniform else new_gate(assignment, model)
    trainer = new_trainer(assignment, model, not protocol.reset_best, not protocol.fresh_optimizer)
    parameters = dict(trainer.model.named_parameters())

    def trained(part: str, expert: int | None = None) -> dict[str, nn.Parameter]:
        if not protocol.freeze:
            return parameters
        return {
            name: p
            for name, p in parameters.items()
            if part_of(name) == part and (expert is None or expert_of(name) == expert)
        }

    everything = whole_lane(assignment, parameters)
    plain = None if uniform else PLAIN
    trainer.leg("backbone", [replace(everything, parameters=trained("backbone"), routing=plain)])
    domain = np.asarray(assignment.interactions.domain)
    for i in range(experts):
        validation = everything.validation
        if protocol.selection == "own_domain":
            validation = validation[domain[validation] == i % domains]
        lane = replace(
            everything,
            name=str(i),
            train=everything.train[domain[everything.train] == i % domains],
            validation=validation,
            parameters=trained("experts", i),
            routing=None if uniform else i,
            part="experts",
            usable=can_select(assignment, validation, f"expert {i}"),
        )
        trainer.leg("experts", [lane])
    gate = trained("gate")
    if gate:
        trainer.leg("gate", [replace(everything, parameters=gate, part="gate")])
    trainer.finish()
    return outcome(assignment, trainer)
