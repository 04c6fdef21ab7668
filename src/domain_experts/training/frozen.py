"""Experts on a frozen backbone, trained side by side."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from domain_experts.errors import UserError
from domain_experts.models.adapter import PLAIN
from domain_experts.models.ctr import CTRModel
from domain_experts.models.low_rank import LowRank
from domain_experts.models.routers import OneHot
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.deep import (
    SHARED_LEG,
    add_experts,
    add_shared,
    expert_of,
    is_expert,
    is_shared,
    load_weights,
    new_model,
    new_trainer,
    outcome,
    whole_lane,
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


def train_experts(
    assignment: Assignment,
    group: Sequence[int],
    per_group: int,
    shared: int = 0,
    own_subspace: int = 0,
) -> Outcome:
    """Train experts over the run's `base`, expert i on the rows of group i mod G.

    It is selected on the validation rows of its group (`selection: own_domain`) or on all. A group
    without usable validation rows (none, or one class) cannot be selected on: its experts stay as
    they start, and add nothing. The reported predictions use each group's first expert.

    Args:
        assignment: the run.
        group: number of the group of each domain.
        per_group: experts of each of the G groups.
        shared: experts that serve every row, trained on all rows before the others.
        own_subspace: leading singular directions of each layer's frozen weights that the groups'
            experts stay out of (`LowRank.stay_out`).

    Returns:
        Of the weights, those of the experts.

    Raises:
        UserError: so many directions leave a layer's experts none.
    """
    groups = max(group) + 1
    model = new_model(assignment)
    load_weights(model, assignment.upstream["base"].weights)
    add_experts(model, assignment, groups * per_group)
    add_shared(model, assignment, shared)
    confined = _confine(model, own_subspace)
    model.router = OneHot(group)
    trainer = new_trainer(assignment, model)
    if shared:
        always = {n: p for n, p in trainer.model.named_parameters() if is_shared(n)}
        everything = whole_lane(assignment, always, "experts")
        trainer.leg(SHARED_LEG, [replace(everything, name="shared", routing=PLAIN)])

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
    for experts in confined:
        experts.settle()

    made = outcome(assignment, trainer, assignment.upstream["base"].record["rows_visited"])
    return replace(
        made,
        state={n: array for n, array in made.state.items() if is_expert(n) or is_shared(n)},
        unused_parameters=sum(p.numel() for e in own[groups:] for p in e.values()),
        experts_moved=model.experts_moved()[:groups],
    )


def _confine(model: CTRModel, directions: int) -> list[LowRank]:
    """Keep all experts out of so many directions of their layers; the layers' experts."""
    if not directions:
        return []
    confined = []
    for number, layer in enumerate(model.tower.adapted):
        if isinstance(layer.experts, LowRank):
            if directions >= min(layer.weight.shape):
                raise UserError(
                    f"adapter.own_subspace is {directions}, but layer {number} of the tower "
                    f"({' x '.join(map(str, layer.weight.shape))}) has only "
                    f"{min(layer.weight.shape)} directions, of which an expert needs one or more"
                )
            layer.experts.stay_out(layer.weight, directions)
            confined.append(layer.experts)
    return confined
