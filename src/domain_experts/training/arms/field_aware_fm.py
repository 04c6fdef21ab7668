"""The strongest floor without depth: every pair of fields has embeddings of its own."""

from typing import TYPE_CHECKING

from domain_experts.declarations import LINEAR, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def field_aware_fm(assignment: "Assignment") -> "Outcome":
    """Field-aware factorisation machine on all fields."""
    from domain_experts.models.field_aware_fm import FieldAwareFM
    from domain_experts.training.deep import context_of, train_whole

    return train_whole(assignment, FieldAwareFM(context_of(assignment)), "backbone")


ARMS = {
    "field_aware_fm": Arm(phase="baselines", train=field_aware_fm, reads=LINEAR, backbone=False),
}
