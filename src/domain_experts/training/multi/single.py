"""One model for each domain and task, on its own rows (M3oE, section 3.2)."""

from domain_experts.training.multi.scopes import train_scopes
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train the arm's models."""
    return train_scopes(task, by_domain=True, by_task=True)
