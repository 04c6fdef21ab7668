"""Controls: where does a gain come from? And oracles, which know the planted groups."""

import math
from typing import TYPE_CHECKING

from domain_experts.declarations import ADAPTER, DEEP, FROZEN, LOOP, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def uniform_gate(assignment: "Assignment") -> "Outcome":
    """Average the frozen experts; nothing is trained."""
    from domain_experts.models.routers import UniformGate
    from domain_experts.training import deep

    model = deep.frozen_experts(assignment)
    model.router = UniformGate(len(assignment.interactions.schema.domains), model.experts)
    trainer = deep.new_trainer(assignment, model)
    return deep.outcome(assignment, trainer, deep.rows_of_experts(assignment, model.experts))


def mlora_epochs(assignment: "Assignment") -> "Outcome":
    """MLoRA without early stopping; the best epoch's weights are kept.

    Its epochs visit as many rows as MoE-MLoRA did in all its legs, rounded up to whole ones.
    """
    from domain_experts.training.deep import train_whole
    from domain_experts.training.joint import mlora

    visited = assignment.upstream["moe_mlora"].record["rows_visited"]
    epochs = math.ceil(visited / len(assignment.index("train")))
    domains = range(len(assignment.interactions.schema.domains))
    return train_whole(assignment, mlora(assignment, domains), "joint", epochs)


def shared_lora(assignment: "Assignment") -> "Outcome":
    """One adapter for all domains, with the rank of all domains' adapters together."""
    from domain_experts.training.deep import train_whole
    from domain_experts.training.joint import mlora

    domains = len(assignment.interactions.schema.domains)
    return train_whole(assignment, mlora(assignment, [0] * domains, times=domains), "joint")


def domain_finetune(assignment: "Assignment") -> "Outcome":
    """Train a copy of the base arm's backbone on each domain, selected on that domain.

    A domain without usable validation rows keeps the base arm's weights. The weights are those of
    all copies, by number of the domain.
    """
    from domain_experts.training.copies import train

    return train(assignment)


def star(assignment: "Assignment") -> "Outcome":
    """STAR (Sheng et al. 2021), the multi-domain baseline of the released configurations."""
    from domain_experts.models.star import Star
    from domain_experts.training.deep import context_of, train_whole

    own = assignment.settings.star
    model = Star(context_of(assignment, own.embedding_dim), auxiliary=own.auxiliary)
    return train_whole(assignment, model, "joint")


def oracle_experts(assignment: "Assignment") -> "Outcome":
    """One expert per planted group on the frozen backbone, on the rows of all its domains."""
    from domain_experts.training.frozen import train_experts

    return train_experts(assignment, assignment.planted_groups, 1)


def oracle_mlora(assignment: "Assignment") -> "Outcome":
    """MLoRA with one adapter per planted group."""
    from domain_experts.training.deep import train_whole
    from domain_experts.training.joint import mlora

    return train_whole(assignment, mlora(assignment, assignment.planted_groups), "joint")


ARMS = {
    "uniform_gate": Arm(
        phase="controls",
        train=uniform_gate,
        reads=(*FROZEN, "adapter.experts_per_domain"),
        needs=("base", "experts"),
    ),
    "mlora_epochs": Arm(
        phase="controls",
        train=mlora_epochs,
        reads=(*DEEP, *ADAPTER, "adapter.experts_per_domain"),
        needs=("moe_mlora",),
    ),
    "shared_lora": Arm(
        phase="baselines",
        train=shared_lora,
        reads=(*DEEP, *ADAPTER),
        balances=True,
    ),
    "domain_finetune": Arm(
        phase="controls",
        train=domain_finetune,
        reads=DEEP,
        needs=("base",),
    ),
    "star": Arm(
        phase="baselines",
        train=star,
        reads=("star", "model.hidden", "model.l2", *LOOP),
        backbone=False,
        balances=True,
        together=False,
    ),
    "oracle_experts": Arm(
        phase="controls",
        train=oracle_experts,
        reads=(*FROZEN, "protocol.selection"),
        needs=("base",),
        planted=True,
    ),
    "oracle_mlora": Arm(
        phase="baselines",
        train=oracle_mlora,
        reads=(*DEEP, *ADAPTER),
        planted=True,
        balances=True,
    ),
}
