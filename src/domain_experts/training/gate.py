"""Phase 3 and the MoE-MLoRA arm: a gate over the frozen experts."""

from domain_experts.models.routers import DomainGate
from domain_experts.training.deep import (
    add_experts,
    expert_of,
    load_weights,
    new_model,
    new_trainer,
    outcome,
    whole_lane,
)
from domain_experts.training.streams import torch_stream
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train the gate alone, over the first `experts_per_domain` experts of each domain."""
    adapter = task.run.settings.adapter
    domains = len(task.interactions.schema.domains)
    experts = domains * adapter.experts_per_domain
    model = new_model(task)
    add_experts(model, task, experts)
    load_weights(model, task.upstream["base"])
    trained = task.upstream["experts"]
    load_weights(model, {n: array for n, array in trained.items() if expert_of(n) < experts})
    stream = torch_stream(task.run.seed, "init", "gate")
    model.router = DomainGate(domains, experts, adapter.gate_dim, stream)
    trainer = new_trainer(task, model)
    gate = {n: p for n, p in trainer.model.named_parameters() if n.startswith("router.")}
    trainer.phase("gate", [whole_lane(task, gate)])
    return outcome(task, trainer)
