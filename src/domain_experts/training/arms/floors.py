"""Floors: models that know no interactions."""

from typing import TYPE_CHECKING

from domain_experts.declarations import LINEAR, RATES, Arm

if TYPE_CHECKING:
    from domain_experts.training.task import Outcome, Task


def item_rate(task: "Task") -> "Outcome":
    """Score a row by its item's smoothed click rate."""
    from domain_experts.training.rates import field_named, outcome, smoothed_rate_logits

    return outcome(task, smoothed_rate_logits(task, field_named(task, "item")))


def user_item_rate(task: "Task") -> "Outcome":
    """Score a row by its user's and its item's rate, added as log-odds."""
    from domain_experts.training.rates import field_named, outcome, smoothed_rate_logits

    user = smoothed_rate_logits(task, field_named(task, "user"))
    return outcome(task, user + smoothed_rate_logits(task, field_named(task, "item")))


def logistic_regression(task: "Task") -> "Outcome":
    """Logistic regression on all fields."""
    from domain_experts.models.linear import LogisticRegression
    from domain_experts.training.deep import context_of, train_whole

    return train_whole(task, LogisticRegression(context_of(task)), "backbone")


def factorisation_machine(task: "Task") -> "Outcome":
    """Factorisation machine on all fields."""
    from domain_experts.models.linear import FactorisationMachine
    from domain_experts.training.deep import context_of, train_whole

    return train_whole(task, FactorisationMachine(context_of(task)), "backbone")


ARMS = {
    "item_rate": Arm(phase="baselines", train=item_rate, reads=RATES, backbone=False),
    "user_item_rate": Arm(
        phase="baselines",
        train=user_item_rate,
        reads=RATES,
        backbone=False,
    ),
    "logistic_regression": Arm(
        phase="baselines",
        train=logistic_regression,
        reads=LINEAR,
        backbone=False,
    ),
    "factorisation_machine": Arm(
        phase="baselines",
        train=factorisation_machine,
        reads=LINEAR,
        backbone=False,
    ),
}
