"""Floor: the user's and the item's smoothed click rates, added as log-odds."""

from domain_experts.training.rates import field_named, outcome, smoothed_rate_logits
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Score a row by its user's and its item's rate."""
    user = smoothed_rate_logits(task, field_named(task, "user"))
    return outcome(task, user + smoothed_rate_logits(task, field_named(task, "item")))
