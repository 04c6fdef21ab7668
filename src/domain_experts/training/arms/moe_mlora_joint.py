"""MoE-MLoRA with a phase in which nothing is frozen."""

from typing import TYPE_CHECKING

from domain_experts.declarations import ADAPTER, DEEP, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def moe_mlora_joint(assignment: "Assignment") -> "Outcome":
    """After the phases of MoE-MLoRA train backbone, experts and gate together on all rows.

    With `adapter.orthogonality` experts whose outputs lie along one another cost; in the phases
    before, where a row has one expert or the experts are frozen, that loss is zero or moves
    nothing.
    """
    from domain_experts.training import deep

    upstream = assignment.upstream["moe_mlora"]
    model = deep.gated(assignment, upstream.weights)
    model.tower.demand_orthogonality(assignment.settings.adapter.orthogonality)
    trainer = deep.new_trainer(assignment, model)
    trainer.leg("joint", [deep.whole_lane(assignment, dict(trainer.model.named_parameters()))])
    return deep.outcome(assignment, trainer, upstream.record["rows_visited"])


ARMS = {
    "moe_mlora_joint": Arm(
        phase="controls",
        train=moe_mlora_joint,
        reads=(
            *DEEP,
            *ADAPTER,
            "adapter.experts_per_domain",
            "adapter.orthogonality",
            "gate",
        ),
        needs=("moe_mlora",),
    ),
}
