"""Oracle: MLoRA that knows which domains share a planted expert."""

from domain_experts.training.deep import train_whole
from domain_experts.training.joint import mlora
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train backbone and one adapter per planted group together."""
    return train_whole(task, mlora(task, task.planted_groups), "joint")
