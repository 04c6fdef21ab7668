"""Control: one adapter for all domains, with the rank of all domains' adapters together."""

from domain_experts.training.deep import train_whole
from domain_experts.training.joint import mlora
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train backbone and the one adapter together."""
    domains = len(task.interactions.schema.domains)
    return train_whole(task, mlora(task, [0] * domains, times=domains), "joint")
