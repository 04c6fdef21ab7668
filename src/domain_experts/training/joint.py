"""MLoRA's model: adapters that rows choose by their domain."""

from collections.abc import Sequence

from domain_experts.models.ctr import CTRModel
from domain_experts.models.routers import OneHot
from domain_experts.training.assignment import Assignment
from domain_experts.training.deep import add_experts, new_model


def mlora(assignment: Assignment, expert: Sequence[int], times: int = 1) -> CTRModel:
    """The run's backbone with adapters.

    Args:
        assignment: the run.
        expert: number of the adapter of each domain.
        times: the adapters' rank, over that of the settings.
    """
    model = new_model(assignment)
    add_experts(model, assignment, max(expert) + 1, times)
    model.router = OneHot(expert)
    return model
