"""STAR (Sheng et al. 2021), the multi-domain baseline of the released configurations."""

from domain_experts.models.star import Star
from domain_experts.training.deep import plan, train_whole
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train shared and domain weights together."""
    star = task.settings.star
    model = Star(plan(task, star.embedding_dim), auxiliary=star.auxiliary)
    return train_whole(task, model, "joint")
