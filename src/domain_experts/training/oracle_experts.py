"""Oracle: experts per planted group, each on the rows of all domains of its group."""

from domain_experts.training.frozen import train_experts
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train one expert per planted group on the frozen backbone; a row uses its group's."""
    return train_experts(task, task.planted_groups, 1)
