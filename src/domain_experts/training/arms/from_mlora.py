"""MoE-MLoRA whose experts start from MLoRA's adapters, over the backbone that MLoRA left."""

from dataclasses import replace
from typing import TYPE_CHECKING

from domain_experts.declarations import FROZEN, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def experts_from_mlora(assignment: "Assignment") -> "Outcome":
    """MLoRA's adapters, each trained on with the rows of its domain; the backbone stays.

    The weights are those of backbone and adapters.
    """
    from domain_experts.training.adapters import train_further

    return train_further(assignment)


def moe_mlora_from_mlora(assignment: "Assignment") -> "Outcome":
    """A gate over `experts_from_mlora`.

    Raises:
        UserError: several experts a domain are asked for.
    """
    from domain_experts.training.arms.mlora_gated import mlora_gated

    further = assignment.upstream["experts_from_mlora"]
    return mlora_gated(replace(assignment, upstream={"mlora": further}))


ARMS = {
    "experts_from_mlora": Arm(
        phase="controls",
        train=experts_from_mlora,
        reads=(*FROZEN, "protocol.selection"),
        needs=("mlora",),
    ),
    "moe_mlora_from_mlora": Arm(
        phase="controls",
        train=moe_mlora_from_mlora,
        reads=(*FROZEN, "adapter.experts_per_domain", "gate"),
        needs=("experts_from_mlora",),
    ),
}
