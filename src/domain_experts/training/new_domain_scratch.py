"""New domain: a backbone of its own, from scratch."""

from domain_experts.training.deep import new_model
from domain_experts.training.new_domain import train_on_share
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train a backbone on the new domain alone."""
    model = new_model(task)
    return train_on_share(task, model, dict(model.named_parameters()))
