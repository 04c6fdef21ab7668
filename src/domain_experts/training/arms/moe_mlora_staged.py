"""MoE-MLoRA with stages that train less and less (after DES-MoE, arXiv 2509.16882)."""

from typing import TYPE_CHECKING

from domain_experts.declarations import FROZEN, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def moe_mlora_staged(assignment: "Assignment") -> "Outcome":
    """After MoE-MLoRA train backbone and gate, then gate and relevant experts, then these alone."""
    from domain_experts.training.staged import train

    return train(assignment)


ARMS = {
    "moe_mlora_staged": Arm(
        phase="controls",
        train=moe_mlora_staged,
        reads=(*FROZEN, "adapter.experts_per_domain", "gate"),
        needs=("moe_mlora",),
    ),
}
