"""Control: MLoRA for as many epochs as MoE-MLoRA gets in all its phases."""

from domain_experts.training.budget import epochs_of
from domain_experts.training.deep import train_whole
from domain_experts.training.joint import mlora
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train MLoRA without early stopping; the best epoch's weights are kept."""
    domains = range(len(task.interactions.schema.domains))
    return train_whole(task, mlora(task, domains), "joint", epochs_of(task))
