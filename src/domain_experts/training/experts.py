"""Phase 2: experts per domain, trained together on the frozen backbone."""

import numpy as np
from torch import nn

from domain_experts.models.routers import OneHot
from domain_experts.training.deep import (
    add_experts,
    expert_of,
    is_expert,
    load_weights,
    new_model,
    new_trainer,
    outcome,
)
from domain_experts.training.loop import Lane
from domain_experts.training.task import Outcome, Task


def train(task: Task) -> Outcome:
    """Train expert i on the rows of domain i mod D, selected on that domain's validation rows.

    The reported predictions use each domain's first expert. An expert whose domain has no usable
    validation rows (none, or one class) cannot be selected and stays as it starts: it adds nothing.
    """
    schema = task.interactions.schema
    domains = len(schema.domains)
    model = new_model(task)
    load_weights(model, task.upstream["base"])
    experts = domains * task.run.settings.adapter.experts_per_domain
    add_experts(model, task, experts)
    model.router = OneHot(domains)
    trainer = new_trainer(task, model)

    own: list[dict[str, nn.Parameter]] = [{} for _ in range(experts)]
    for name, parameter in trainer.model.named_parameters():
        if is_expert(name):
            own[expert_of(name)][name] = parameter
    domain = np.asarray(task.interactions.domain)
    train_rows, validation_rows = task.index("train"), task.index("validation")
    lanes = []
    for i in range(experts):
        d = i % domains
        validation = validation_rows[domain[validation_rows] == d]
        labels = np.asarray(task.interactions.labels)[validation]
        if len(validation) == 0 or (labels == labels[:1]).all(0).any():
            task.progress.say(
                f"expert {i} stays untrained: the validation rows of domain "
                f"'{schema.domains[d]}' hold one class"
            )
            continue
        lanes.append(Lane(str(i), train_rows[domain[train_rows] == d], validation, own[i], i))
    trainer.phase("experts", lanes)

    made = outcome(task, trainer)
    kept = {name: array for name, array in made.state.items() if is_expert(name)}
    return Outcome(made.logits, kept, made.parameters, made.curve, experts=experts)
