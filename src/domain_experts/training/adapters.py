"""MLoRA's adapters as experts that are trained further."""

import numpy as np

from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.deep import (
    expert_of,
    is_expert,
    load_weights,
    new_trainer,
    outcome,
)
from domain_experts.training.frozen import can_select
from domain_experts.training.joint import mlora
from domain_experts.training.lanes import Lane


def train_further(assignment: Assignment) -> Outcome:
    """Train each of MLoRA's adapters on the rows of its domain, over MLoRA's frozen backbone.

    Unlike `frozen.train_experts` they start from weights that add something already. They are
    selected as there, and an adapter whose domain cannot be selected on stays MLoRA's.
    """
    domains = range(len(assignment.interactions.schema.domains))
    upstream = assignment.upstream["mlora"]
    model = mlora(assignment, domains)
    load_weights(model, upstream.weights)
    trainer = new_trainer(assignment, model)
    adapters = {n: p for n, p in trainer.model.named_parameters() if is_expert(n)}
    rows = {split: assignment.index(split) for split in ("train", "validation")}
    domain = np.asarray(assignment.interactions.domain)
    lanes = []
    for d in domains:
        own = {split: index[domain[index] == d] for split, index in rows.items()}
        by_own = assignment.settings.protocol.selection == "own_domain"
        validation = own["validation"] if by_own else rows["validation"]
        lanes.append(
            Lane(
                str(d),
                own["train"],
                validation,
                {name: p for name, p in adapters.items() if expert_of(name) == d},
                routing=d,
                part="experts",
                usable=can_select(assignment, validation, f"expert {d}"),
            )
        )
    trainer.leg("experts", lanes)
    return outcome(assignment, trainer, upstream.record["rows_visited"])
