"""Phase 3 and the MoE-MLoRA arm: a gate over the frozen experts."""

from domain_experts.training.deep import (
    frozen_experts,
    new_gate,
    new_trainer,
    outcome,
    part_of,
    rows_of_experts,
    whole_lane,
)
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train the gate alone, over the first `experts_per_domain` experts of each domain."""
    model = frozen_experts(task)
    model.router = new_gate(task, model)
    trainer = new_trainer(task, model)
    gate = {n: p for n, p in trainer.model.named_parameters() if part_of(n) == "gate"}
    trainer.phase("gate", [whole_lane(task, gate, "gate")])
    return outcome(task, trainer, rows_of_experts(task, model.experts))
