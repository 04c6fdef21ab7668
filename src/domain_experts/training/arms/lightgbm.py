"""A floor that is strong on tables: gradient-boosted trees on counts and click rates."""

from typing import TYPE_CHECKING

from domain_experts.declarations import RATES, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def lightgbm(assignment: "Assignment") -> "Outcome":
    """Gradient-boosted trees on counts and click rates of codes, domains and pairs of both."""
    from domain_experts.training.trees import train

    return train(assignment)


ARMS = {
    "lightgbm": Arm(phase="baselines", train=lightgbm, reads=(*RATES, "trees"), backbone=False),
}
