"""MoE-MLoRA's gate over experts that were trained together with their backbone."""

from dataclasses import replace
from typing import TYPE_CHECKING

from domain_experts.declarations import FROZEN, Arm
from domain_experts.errors import UserError

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def mlora_gated(assignment: "Assignment") -> "Outcome":
    """A gate over MLoRA's adapters, one a domain; backbone and adapters stay as MLoRA left them.

    Raises:
        UserError: several experts a domain are asked for.
    """
    from domain_experts.training.arms.methods import moe_mlora
    from domain_experts.training.deep import is_expert

    if assignment.settings.adapter.experts_per_domain != 1:
        raise UserError(
            "mlora_gated gates MLoRA's adapters, one a domain: leave adapter.experts_per_domain at "
            "1 for it"
        )
    mlora = assignment.upstream["mlora"]
    adapters = {name: array for name, array in mlora.weights.items() if is_expert(name)}
    # the rows that MLoRA visited made both parts, and count once
    experts = replace(mlora, weights=adapters, record={"lanes": []})
    backbone = replace(mlora, weights={n: a for n, a in mlora.weights.items() if n not in adapters})
    return moe_mlora(replace(assignment, upstream={"base": backbone, "experts": experts}))


ARMS = {
    "mlora_gated": Arm(
        phase="controls",
        train=mlora_gated,
        reads=(*FROZEN, "adapter.experts_per_domain", "gate"),
        needs=("mlora",),
    ),
}
