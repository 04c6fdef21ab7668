"""What a finished run leaves, as the state of the module that serves it."""

from collections.abc import Mapping

import numpy as np

from domain_experts.serving.rebuild import VECTORS
from domain_experts.serving.tables import rates_of, trees_of
from domain_experts.training.assignment import Assignment
from domain_experts.training.deep import expert_of, is_expert

State = dict[str, np.ndarray]
RATES = {"item_rate": ("item",), "user_item_rate": ("user", "item")}
"""Arms that train nothing, and the fields whose rates they add."""
ON_BASE = {"experts": "base", "oracle_experts": "base", "experts_held_out": "base_held_out"}
"""Arms that leave experts alone, and those whose backbone is under them."""
SEVERAL = ("domain_finetune", "single", "mtl", "mdl", "mdmt")
"""Arms, also as released, with several models, whose weights stand behind a number."""


def served_state(assignment: Assignment, weights: Mapping[str, np.ndarray]) -> State:
    """The state of a run's module, with the pretrained tables of its data.

    Args:
        assignment: the run with its data and, if it leaves experts alone, what it started from.
        weights: the weights that it left; none of an arm that trains nothing.
    """
    tables = {
        f"{VECTORS}{name}": np.array(table)
        for name, table in assignment.interactions.vectors.items()
    }
    return _own(assignment, weights) | tables


def _own(assignment: Assignment, weights: Mapping[str, np.ndarray]) -> State:
    arm = assignment.run.arm
    if arm in RATES:
        return rates_of(assignment, RATES[arm])
    if arm == "lightgbm":
        return trees_of(assignment, weights)
    if arm in ON_BASE:
        # of an arm that trains several experts a domain the first one serves
        served = len(assignment.interactions.schema.domains)
        if arm == "oracle_experts":
            served = max(assignment.planted_groups) + 1
        kept = {n: a for n, a in weights.items() if expert_of(n) < served}
        return {**assignment.upstream[ON_BASE[arm]].weights, **kept}
    if arm == "experts_crossfit":
        return _of_folds(assignment, weights)
    if arm.removesuffix("_released") in SEVERAL:
        return {f"models.{name}": array for name, array in weights.items()}
    return dict(weights)


def _of_folds(assignment: Assignment, weights: Mapping[str, np.ndarray]) -> State:
    """Each fold's backbone with its own experts, numbered from 0."""
    domains = len(assignment.interactions.schema.domains)
    state: State = {}
    for name, array in weights.items():
        if is_expert(name):
            fold, expert = divmod(expert_of(name), domains)
            state[f"models.{fold}.{name.rpartition('.')[0]}.{expert}"] = array
        else:
            state[f"models.{name}"] = array
    return state
