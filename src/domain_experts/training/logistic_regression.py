"""Floor: logistic regression on all fields."""

from domain_experts.models.linear import LogisticRegression
from domain_experts.training.deep import plan, train_whole
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train all weights on the rows of all domains."""
    return train_whole(task, LogisticRegression(plan(task)), "backbone")
