"""AutoIFS (2026): a baseline with a search of its own."""

from typing import TYPE_CHECKING

from domain_experts.declarations import MULTI_LOOP, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def autoifs(assignment: "Assignment") -> "Outcome":
    """Search, rewind, retrain."""
    from domain_experts.training.multi.autoifs import train

    return train(assignment)


ARMS = {
    "autoifs": Arm(
        phase="baselines",
        train=autoifs,
        reads=("multi_model.embedding_dim", "multi_model.autoifs", *MULTI_LOOP),
        protocol="m3oe",
        family="multi",
        backbone=False,
    )
}
