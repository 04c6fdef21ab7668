"""Arms of the multi-domain multi-task models: how many models there are (M3oE, section 3.2)."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from domain_experts.declarations import MULTI_LOOP, Arm, ProtocolName

if TYPE_CHECKING:
    from domain_experts.training.assignment import Assignment, Outcome

READS = (
    "multi_model.embedding_dim",
    "multi_model.hidden",
    "multi_model.weight_decay",
    *MULTI_LOOP,
)


def scoped(by_domain: bool, by_task: bool) -> Callable[["Assignment"], "Outcome"]:
    """Trainer of one model for all, or of one for each domain, each task, or each of both."""

    def train(assignment: "Assignment") -> "Outcome":
        from domain_experts.training.multi.scopes import train_scopes

        return train_scopes(assignment, by_domain, by_task)

    return train


SINGLE, MTL = scoped(by_domain=True, by_task=True), scoped(by_domain=True, by_task=False)
MDL, MDMT = scoped(by_domain=False, by_task=True), scoped(by_domain=False, by_task=False)


def _arm(train: Callable[["Assignment"], "Outcome"], protocol: ProtocolName) -> Arm:
    return Arm(
        "baselines", train, READS, protocol=protocol, family="multi", balances=train in (MTL, MDMT)
    )


ARMS = {
    "single": _arm(SINGLE, "m3oe"),
    "mtl": _arm(MTL, "m3oe"),
    "mdl": _arm(MDL, "m3oe"),
    "mdmt": _arm(MDMT, "m3oe"),
    "single_released": _arm(SINGLE, "m3oe_released_one_axis"),
    "mtl_released": _arm(MTL, "m3oe_released_one_axis"),
    "mdl_released": _arm(MDL, "m3oe_released_one_axis"),
    "mdmt_released": _arm(MDMT, "m3oe_released"),
}
