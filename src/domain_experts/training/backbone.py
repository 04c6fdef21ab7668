"""Phase 1 and the base arm: the backbone on the rows of all domains."""

from domain_experts.training.deep import new_model, train_whole
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train all weights, without experts."""
    return train_whole(task, new_model(task), "backbone")
