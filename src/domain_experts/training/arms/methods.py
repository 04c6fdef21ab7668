"""The methods that the study compares: base, MLoRA (arXiv 2408.08913) and MoE-MLoRA."""

from typing import TYPE_CHECKING

from domain_experts.declarations import ADAPTER, DEEP, FROZEN, SEQUENCE, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def base(assignment: "Assignment") -> "Outcome":
    """The backbone on the rows of all domains."""
    from domain_experts.training.deep import new_model, train_whole

    return train_whole(assignment, new_model(assignment), "backbone")


def mlora(assignment: "Assignment") -> "Outcome":
    """Train backbone and one adapter a domain together; a row uses its domain's."""
    from domain_experts.training.deep import train_whole
    from domain_experts.training.joint import mlora

    domains = range(len(assignment.interactions.schema.domains))
    return train_whole(assignment, mlora(assignment, domains), "joint")


def experts(assignment: "Assignment") -> "Outcome":
    """Expert i on the rows of domain i mod D, all on the frozen backbone.

    The reported predictions use each domain's first expert.
    """
    from domain_experts.training.frozen import train_experts

    domains = len(assignment.interactions.schema.domains)
    adapter = assignment.settings.adapter
    return train_experts(
        assignment,
        range(domains),
        adapter.experts_per_domain,
        adapter.shared_experts,
        adapter.own_subspace,
    )


def moe_mlora(assignment: "Assignment") -> "Outcome":
    """A gate over the first `experts_per_domain` frozen experts of each domain."""
    from domain_experts.training import deep

    model = deep.frozen_experts(assignment)
    model.router = deep.new_gate(assignment, model)
    trainer = deep.new_trainer(assignment, model)
    gate = {n: p for n, p in trainer.model.named_parameters() if deep.part_of(n) == "gate"}
    trainer.leg("gate", [deep.whole_lane(assignment, gate, "gate")])
    return deep.outcome(assignment, trainer, deep.rows_of_experts(assignment, model.experts))


def moe_mlora_sequence(assignment: "Assignment") -> "Outcome":
    """All legs in one run, expert after expert."""
    from domain_experts.training.sequence import train

    return train(assignment)


ARMS = {
    "base": Arm(
        phase="backbones",
        train=base,
        reads=DEEP,
        counterpart="released_base",
        balances=True,
    ),
    "mlora": Arm(
        phase="baselines",
        train=mlora,
        reads=(*DEEP, *ADAPTER),
        counterpart="released_mlora",
        balances=True,
    ),
    "experts": Arm(
        phase="experts",
        train=experts,
        reads=(
            *FROZEN,
            "adapter.experts_per_domain",
            "adapter.shared_experts",
            "adapter.own_subspace",
            "protocol.selection",
        ),
        needs=("base",),
    ),
    "moe_mlora": Arm(
        phase="gates",
        train=moe_mlora,
        reads=(*FROZEN, "adapter.experts_per_domain", "gate"),
        needs=("base", "experts"),
    ),
    "moe_mlora_sequence": Arm(
        phase="baselines",
        train=moe_mlora_sequence,
        reads=SEQUENCE,
        counterpart="released",
    ),
    "moe_mlora_released": Arm(
        phase="baselines",
        train=moe_mlora_sequence,
        reads=SEQUENCE,
        protocol="released",
        counterpart="described",
    ),
    "base_released": Arm(
        phase="baselines",
        train=base,
        reads=DEEP,
        protocol="released_base",
        counterpart="described",
        balances=True,
    ),
    "mlora_released": Arm(
        phase="baselines",
        train=mlora,
        reads=(*DEEP, *ADAPTER),
        protocol="released_mlora",
        counterpart="described",
        balances=True,
    ),
}
