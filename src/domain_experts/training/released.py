"""What the released MoE-MLoRA code in effect computes (moe_mlora: phases, as run on TF 1.12).

The gate stays uniform and nothing freezes: one model with an averaged sum of adapters is trained on
all rows, then on one domain after another, then on all rows again.
"""

from dataclasses import replace

import numpy as np

from domain_experts.models.routers import UniformGate
from domain_experts.training.deep import add_experts, new_model, new_trainer, outcome, whole_lane
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train everything in E + 2 phases; the best weights of all phases are kept."""
    domains = len(task.interactions.schema.domains)
    experts = domains * task.run.settings.adapter.experts_per_domain
    model = new_model(task)
    add_experts(model, task, experts)
    model.router = UniformGate(domains, experts)
    trainer = new_trainer(task, model)
    lane = whole_lane(task, dict(trainer.model.named_parameters()))
    domain = np.asarray(task.interactions.domain)[lane.train]
    trainer.phase("released, all domains", [lane])
    for i in range(experts):
        own = replace(lane, train=lane.train[domain == i % domains])
        trainer.phase(f"released, expert {i}", [own])
    trainer.phase("released, all domains again", [lane])
    trainer.restore_best()
    return outcome(task, trainer)
