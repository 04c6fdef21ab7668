"""Control: MLoRA for as many epochs as MoE-MLoRA gets in all its phases."""

import math

from domain_experts.training.deep import train_whole
from domain_experts.training.joint import mlora
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train MLoRA without early stopping; the best epoch's weights are kept.

    Its epochs visit as many rows as MoE-MLoRA did, rounded up to whole ones.
    """
    visited = task.upstream["moe_mlora"].record["rows_visited"]
    epochs = math.ceil(visited / len(task.index("train")))
    domains = range(len(task.interactions.schema.domains))
    return train_whole(task, mlora(task, domains), "joint", epochs)
