"""Floors: models that know no interactions."""

from typing import TYPE_CHECKING

from domain_experts.declarations import LINEAR, RATES, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def item_rate(assignment: "Assignment") -> "Outcome":
    """Score a row by its item's smoothed click rate."""
    from domain_experts.training.rates import field_named, outcome, smoothed_rate_logits

    return outcome(assignment, smoothed_rate_logits(assignment, field_named(assignment, "item")))


def user_item_rate(assignment: "Assignment") -> "Outcome":
    """Score a row by its user's and its item's rate, added as log-odds."""
    from domain_experts.training.rates import field_named, outcome, smoothed_rate_logits

    user = smoothed_rate_logits(assignment, field_named(assignment, "user"))
    return outcome(
        assignment, user + smoothed_rate_logits(assignment, field_named(assignment, "item"))
    )


def logistic_regression(assignment: "Assignment") -> "Outcome":
    """Logistic regression on all fields."""
    from domain_experts.models.linear import LogisticRegression
    from domain_experts.training.deep import context_of, train_whole

    return train_whole(assignment, LogisticRegression(context_of(assignment)), "backbone")


def factorisation_machine(assignment: "Assignment") -> "Outcome":
    """Factorisation machine on all fields."""
    from domain_experts.models.linear import FactorisationMachine
    from domain_experts.training.deep import context_of, train_whole

    return train_whole(assignment, FactorisationMachine(context_of(assignment)), "backbone")


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
