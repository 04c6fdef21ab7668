"""MoE-MLoRA with a phase in which nothing is frozen, or less and less is trained."""

from typing import TYPE_CHECKING

from domain_experts.declarations import ADAPTER, DEEP, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def moe_mlora_joint(assignment: "Assignment") -> "Outcome":
    """After the phases of MoE-MLoRA train backbone, experts and gate together on all rows.

    With `adapter.orthogonality` experts whose outputs lie along one another cost; in the phases
    before, where a row has one expert or the experts are frozen, that loss is zero or moves
    nothing. With `adapter.staged` they are trained in stages.
    """
    from domain_experts.training import deep, staged

    model = deep.new_model(assignment)
    per_domain = assignment.settings.adapter.experts_per_domain
    deep.add_experts(model, assignment, per_domain * len(assignment.interactions.schema.domains))
    model.router = deep.new_gate(assignment, model)
    upstream = assignment.upstream["moe_mlora"]
    deep.add_shared(model, assignment, deep.shared_in(upstream.weights))
    deep.load_weights(model, upstream.weights)
    model.tower.demand_orthogonality(assignment.settings.adapter.orthogonality)
    if assignment.settings.adapter.staged:
        return staged.train(assignment, model, upstream.record["rows_visited"])
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
            "adapter.staged",
            "gate",
        ),
        needs=("moe_mlora",),
    ),
}
