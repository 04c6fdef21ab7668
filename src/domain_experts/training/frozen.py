"""Experts on a frozen backbone, trained side by side."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from domain_experts.models.routers import OneHot
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.deep import (
    add_experts,
    expert_of,
    is_expert,
    load_weights,
    new_model,
    new_trainer,
    outcome,
)
from domain_experts.training.lanes import Lane


def can_select(assignment: Assignment, validation: np.ndarray, what: str) -> bool:
    """Whether validation rows hold both classes of every task; else `what` stays untrained."""
    labels = np.asarray(assignment.interactions.labels)[validation]
    one_class = len(validation) == 0 or bool((labels == labels[:1]).all(0).any())
    if one_class:
        assignment.progress.say(
            f"{what} stays untrained: its validation rows hold one class or none"
        )
    return not one_class


def train_experts(assignment: Assignment, group: Sequence[int], per_group: int) -> Outcome:
    """Train experts over the run's `base`, expert i on the rows of group i mod G.

    It is selected on the validation rows of its group (`selection: own_domain`) or on all. A group
    without usable validation rows (none, or one class) cannot be selected on: its experts stay as
    they start, and add nothing. The reported predictions use each group's first expert.

    Args:
        assignment: the run.
        group: number of the group of each domain.
        per_group: experts of each of the G groups.

    Returns:
        Of the weights, those of the experts.
    """
    groups = max(group) + 1
    model = new_model(assignment)
    load_weights(model, assignment.upstream["base"].weights)
    add_experts(model, assignment, groups * per_group)
    model.router = OneHot(group)
    trainer = new_trainer(assignment, model)

    own: list[dict[str, nn.Parameter]] = [{} for _ in range(groups * per_group)]
    for name, parameter in trainer.model.named_parameters():
        if is_expert(name):
            own[expert_of(name)][name] = parameter
    of_row = np.asarray(group)[np.asarray(assignment.interactions.domain)]
    train_rows, validation_rows = assignment.index("train"), assignment.index("validation")
    lanes = []
    for i, parameters in enumerate(own):
        validation = validation_rows
        if assignment.settings.protocol.selection == "own_domain":
            validation = validation_rows[of_row[validation_rows] == i % groups]
        lanes.append(
            Lane(
                str(i),
                train_rows[of_row[train_rows] == i % groups],
                validation,
                parameters,
                routing=i,
                part="experts",
                usable=can_select(assignment, validation, f"expert {i}"),
                used=i < groups,
            )
        )
    trainer.leg("experts", lanes)

    made = outcome(assignment, trainer, assignment.upstream["base"].record["rows_visited"])
    return replace(
        made,
        state={name: array for name, array in made.state.items() if is_expert(name)},
        unused_parameters=sum(p.numel() for e in own[groups:] for p in e.values()),
        experts_moved=model.experts_moved()[:groups],
    )
