"""Floor: the item's smoothed click rate."""

from domain_experts.training.rates import field_named, outcome, smoothed_rate_logits
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Score a row by its item's rate."""
    return outcome(task, smoothed_rate_logits(task, field_named(task, "item")))
