"""-MDMT: one model for all domains and tasks (M3oE, section 3.2)."""

from domain_experts.training.multi.scopes import train_scopes
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train the arm's models."""
    return train_scopes(task, by_domain=False, by_task=False)
