"""MAMDR: weights for all domains between those of each, and parts of each domain's own."""

from typing import TYPE_CHECKING

from domain_experts.declarations import DEEP, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def domain_negotiation(assignment: "Assignment") -> "Outcome":
    """Train on one domain after another, then go a part of the way (MAMDR's first half)."""
    from domain_experts.training.mamdr import negotiate

    return negotiate(assignment)


def mamdr(assignment: "Assignment") -> "Outcome":
    """Domain negotiation, and weights added for each domain that other domains regularise."""
    from domain_experts.training.mamdr import regularise

    return regularise(assignment)


ARMS = {
    "domain_negotiation": Arm(
        phase="baselines",
        train=domain_negotiation,
        reads=(*DEEP, "mamdr.outer_step"),
    ),
    "mamdr": Arm(
        phase="baselines",
        train=mamdr,
        reads=(*DEEP, "mamdr"),
    ),
}
