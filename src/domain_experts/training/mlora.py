"""MLoRA (arXiv 2408.08913): one expert per domain, all weights trained jointly."""

from domain_experts.models.routers import OneHot
from domain_experts.training.deep import add_experts, new_model, new_trainer, outcome, whole_lane
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train backbone and adapters together; a row uses its domain's adapter."""
    domains = len(task.interactions.schema.domains)
    model = new_model(task)
    add_experts(model, task, domains)
    model.router = OneHot(domains)
    trainer = new_trainer(task, model)
    trainer.phase("joint", [whole_lane(task, dict(trainer.model.named_parameters()))])
    return outcome(task, trainer)
