"""MLoRA (arXiv 2408.08913): one expert per domain, all weights trained jointly."""

from domain_experts.training.deep import train_whole
from domain_experts.training.joint import mlora
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train backbone and adapters together; a row uses its domain's adapter."""
    domains = range(len(task.interactions.schema.domains))
    return train_whole(task, mlora(task, domains), "joint")
