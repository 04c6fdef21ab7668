"""MoE-MLoRA with cross-fitting: experts learn out of fold, and the backbone sees all rows.

Rows kept from a backbone are lost to it. As stacking does (Wolpert 1992), the training rows are cut
into folds, and the experts of a fold are trained over a backbone that has not seen it. What serves
is the base arm's backbone, with all folds' experts beside one another: each has a weight of its own
under the gate, so that a domain has as many experts as there are folds. Their weights are not
averaged, as the mean of products A B is not the product of the means, and no fold's backbone
serves, as each lacks rows that the base arm's has.
"""

from typing import TYPE_CHECKING

from domain_experts.declarations import FROZEN, Arm

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome


def experts_crossfit(assignment: "Assignment") -> "Outcome":
    """Each fold's experts over a backbone without that fold; predictions are the folds' mean."""
    from domain_experts.training.crossfit import experts

    return experts(assignment)


def moe_mlora_crossfit(assignment: "Assignment") -> "Outcome":
    """A gate over the experts of all folds, on the base arm's backbone."""
    from domain_experts.training.crossfit import gate

    return gate(assignment)


def mean_crossfit(assignment: "Assignment") -> "Outcome":
    """The mean of each domain's experts of all folds, on the base arm's backbone."""
    from domain_experts.training.crossfit import own_mean

    return own_mean(assignment)


ARMS = {
    "experts_crossfit": Arm(
        phase="baselines",
        train=experts_crossfit,
        reads=(*FROZEN, "protocol.selection", "crossfit"),
    ),
    "moe_mlora_crossfit": Arm(
        phase="controls",
        train=moe_mlora_crossfit,
        reads=(*FROZEN, "gate", "crossfit"),
        needs=("base", "experts_crossfit"),
    ),
    "mean_crossfit": Arm(
        phase="controls",
        train=mean_crossfit,
        reads=(*FROZEN, "crossfit"),
        needs=("base", "experts_crossfit"),
    ),
}
