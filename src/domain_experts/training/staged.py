"""Stages that train less and less, so that domains overwrite little of what others learnt.

The schedule and the masks of DES-MoE (Li et al. 2025, arXiv 2509.16882, sections 3.2 and 3.3),
after the phases of MoE-MLoRA:

| stage | trains |
|---|---|
| warm-up | backbone and gate |
| stabilisation | gate, and of each row the experts relevant to its domain |
| consolidation | of each row those experts |

Relevant to domain d are the experts of which d uses at least 0.6 times as much as of the one that
it uses most (equation 6). How much is the gate's mean weight, where the paper counts top-k choices:
a gate that chooses none has no counts. Departures: a stage ends by early stopping, as every leg
here does, and not at a fifth and seven tenths of a number of steps; which experts are relevant is
found once, after the warm-up; experts of several domains are shared, not copied; and the router is
the trained gate, without the paper's second one and its distillation.
"""

from dataclasses import replace

import torch
from torch import Tensor

from domain_experts.errors import UserError
from domain_experts.models.routers import Gate
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.deep import gated, new_trainer, outcome, part_of, whole_lane

RELEVANT = 0.6
STAGES = {
    "warm-up": ("backbone", "gate"),
    "stabilisation": ("gate", "experts"),
    "consolidation": ("experts",),
}
MASK = "router.own"


def relevant(table: Tensor) -> Tensor:
    """Which experts (D, E) are relevant to each domain, from the gate's weights (D, E)."""
    return table >= RELEVANT * table.amax(1, keepdim=True)


def train(assignment: Assignment) -> Outcome:
    """Train MoE-MLoRA further, stage after stage.

    Raises:
        UserError: the gate has no table of domains, from which relevance is read.
    """
    if assignment.settings.gate.input != "domain":
        raise UserError(
            "moe_mlora_staged reads from the gate which experts are relevant to a domain: leave "
            "gate.input at domain for it"
        )
    upstream = assignment.upstream["moe_mlora"]
    model = gated(assignment, upstream.weights)
    gate = model.router
    assert isinstance(gate, Gate)
    # all, until the warm-up has ended; a checkpoint keeps what was found then
    gate.own = torch.ones(len(assignment.interactions.schema.domains), model.experts)
    trainer = new_trainer(assignment, model)
    for stage, parts in STAGES.items():
        ended = {lane.phase for lane in trainer.lanes}
        trained = {n: p for n, p in trainer.model.named_parameters() if part_of(n) in parts}
        trainer.leg(stage, [whole_lane(assignment, trained)])
        if stage == "warm-up" and stage not in ended:
            table = gate.table()
            assert table is not None
            gate.own.copy_(relevant(table.detach()))
    made = outcome(assignment, trainer, upstream.record["rows_visited"])
    # it guides training alone
    return replace(made, state={n: array for n, array in made.state.items() if n != MASK})
