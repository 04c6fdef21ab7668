"""MoE-MLoRA whose experts and gate learn from training rows that their backbone has not seen.

Trained on the rows that the backbone has fitted already, an expert finds little to add. Here a
share of each domain's training rows is kept from the backbone, as stacking keeps rows from its
first level (Wolpert 1992), and given to experts and gate alone.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from domain_experts.declarations import ADAPTER, DEEP, FROZEN, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def base_held_out(assignment: "Assignment") -> "Outcome":
    """The backbone on the training rows that are not held out."""
    from domain_experts.training.arms.methods import base
    from domain_experts.training.rows import without_held_out

    return base(without_held_out(assignment))


def experts_held_out(assignment: "Assignment") -> "Outcome":
    """Experts on the held-out rows of their domains, over `base_held_out`."""
    from domain_experts.training.arms.methods import experts
    from domain_experts.training.rows import held_out

    return experts(_renamed(held_out(assignment)))


def moe_mlora_held_out(assignment: "Assignment") -> "Outcome":
    """A gate on the held-out rows, over `experts_held_out`."""
    from domain_experts.training.arms.methods import moe_mlora
    from domain_experts.training.rows import held_out

    return moe_mlora(_renamed(held_out(assignment)))


def moe_mlora_refit(assignment: "Assignment") -> "Outcome":
    """Experts and gate of `moe_mlora_held_out` over the base arm's backbone, which saw all rows.

    Nothing is trained: both backbones start from the same weights, but nothing makes them agree.
    """
    from domain_experts.training import deep

    model = deep.new_model(assignment)
    per_domain = assignment.settings.adapter.experts_per_domain
    deep.add_experts(model, assignment, per_domain * len(assignment.interactions.schema.domains))
    model.router = deep.new_gate(assignment, model)
    rows = 0
    for arm in ("moe_mlora_held_out", "base"):
        upstream = assignment.upstream[arm]
        deep.add_shared(model, assignment, deep.shared_in(upstream.weights))
        deep.load_weights(model, upstream.weights)
        rows += upstream.record["rows_visited"]
    return deep.outcome(assignment, deep.new_trainer(assignment, model), rows)


def _renamed(assignment: "Assignment") -> "Assignment":
    """The assignment with its upstream arms under the names that the trainers know."""
    upstream = {name.removesuffix("_held_out"): up for name, up in assignment.upstream.items()}
    return replace(assignment, upstream=upstream)


PER_DOMAIN = "adapter.experts_per_domain"
WAYS = ("adapter.shared_experts", "adapter.own_subspace")
ARMS = {
    "base_held_out": Arm(phase="backbones", train=base_held_out, reads=(*DEEP, "held_out")),
    "experts_held_out": Arm(
        phase="experts",
        train=experts_held_out,
        reads=(*FROZEN, PER_DOMAIN, *WAYS, "protocol.selection", "held_out"),
        needs=("base_held_out",),
    ),
    "moe_mlora_held_out": Arm(
        phase="gates",
        train=moe_mlora_held_out,
        reads=(*FROZEN, PER_DOMAIN, "gate", "held_out"),
        needs=("base_held_out", "experts_held_out"),
    ),
    "moe_mlora_refit": Arm(
        phase="controls",
        train=moe_mlora_refit,
        reads=(*DEEP, *ADAPTER, PER_DOMAIN, "gate"),
        needs=("base", "moe_mlora_held_out"),
    ),
}
