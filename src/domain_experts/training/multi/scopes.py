"""How many models an arm has, and which domains and tasks each one serves (M3oE, section 3.2)."""

from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np
import torch

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.registry import BACKBONES
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.batches import Rows
from domain_experts.training.lanes import Lane, LaneRecord
from domain_experts.training.multi.bilevel import MultiTrainer
from domain_experts.training.multi.views import views
from domain_experts.training.streams import torch_stream


@dataclass(frozen=True)
class Scope:
    """One model: its number, and the domains and tasks that it serves."""

    number: int
    domains: tuple[int, ...]
    tasks: tuple[int, ...]


def scopes(assignment: Assignment, by_domain: bool, by_task: bool) -> list[Scope]:
    """One model for all, or one for each domain, each task, or each of both."""
    schema = assignment.interactions.schema
    domains, tasks = tuple(range(len(schema.domains))), tuple(range(len(schema.tasks)))
    pairs = [
        (d, t)
        for d in ([(d,) for d in domains] if by_domain else [domains])
        for t in ([(t,) for t in tasks] if by_task else [tasks])
    ]
    return [Scope(i, d, t) for i, (d, t) in enumerate(pairs)]


def train_scopes(assignment: Assignment, by_domain: bool, by_task: bool) -> Outcome:
    """Train the models one after another; a logit comes from the model of its domain and task.

    A model without training rows, or without validation rows of both classes, which could not be
    selected, stays as it starts. The weights are those of all models, each name after the model's
    number.
    """
    models = scopes(assignment, by_domain, by_task)
    _say_what_is_left_out(assignment, models[0])
    rows = Rows.of(assignment.interactions, torch.device(assignment.device))
    domain = np.asarray(assignment.interactions.domain)
    tasks = len(assignment.interactions.schema.tasks)
    index = {split: assignment.index(split) for split in ("train", "validation", "test")}
    logits = {s: np.empty((len(index[s]), tasks), np.float32) for s in ("validation", "test")}
    state: dict[str, np.ndarray] = {}
    curve: list[dict[str, Any]] = []
    lanes: list[LaneRecord] = []
    parameters = 0
    for scope in models:
        trainer = _trainer(assignment, rows, scope)
        own = {split: i[np.isin(domain[i], scope.domains)] for split, i in index.items()}
        name = "all" if len(models) == 1 else str(scope.number)
        usable = _can_train(assignment, own["train"], own["validation"], scope)
        for leg, trained in trainer.model.legs().items():
            lane = Lane(name, own["train"], own["validation"], trained, usable=usable)
            trainer.leg(leg, [lane])
        for split, whole in logits.items():
            places = np.flatnonzero(np.isin(domain[index[split]], scope.domains))
            if not len(places):
                continue
            whole[np.ix_(places, np.array(scope.tasks))] = trainer.logits(own[split]).cpu().numpy()
        for key, value in trainer.model.state_dict().items():
            state[f"{scope.number}.{key}"] = value.cpu().numpy()
        parameters += sum(parameter.numel() for parameter in trainer.model.parameters())
        curve += trainer.curve
        lanes += [_renumbered(lane, scope) for lane in trainer.lanes]
    one = len(models) == 1
    return Outcome(
        logits,
        state,
        {"backbone": parameters, "experts": 0, "gate": 0},
        curve=curve,
        lanes=lanes,
        views=views(trainer, index["test"]) if one and len(index["test"]) else {},
        by_domain=by_domain,
        by_task=by_task,
        tested=trainer.fusion() if one else {},
    )


def _say_what_is_left_out(assignment: Assignment, scope: Scope) -> None:
    """Say it of a model that is made for several domains or tasks and has one."""
    backbone = BACKBONES[assignment.run.backbone]
    for need in backbone.needs:
        if len(getattr(scope, need)) < 2:
            assignment.progress.say(
                f"{backbone.label} is made for several {need}; it trains without what they share"
            )


def _renumbered(lane: LaneRecord, scope: Scope) -> LaneRecord:
    """A lane with the data set's numbers of domains and tasks in the place of the model's."""
    return replace(
        lane,
        domains=[scope.domains[d] for d in lane.domains],
        tasks=[scope.tasks[t] for t in lane.tasks],
    )


def _trainer(assignment: Assignment, rows: Rows, scope: Scope) -> MultiTrainer:
    """The trainer of one model, on its own domains and tasks."""
    run, schema = assignment.run, assignment.interactions.schema
    own = replace(
        schema,
        domains=tuple(schema.domains[d] for d in scope.domains),
        tasks=tuple(schema.tasks[t] for t in scope.tasks),
    )
    number = torch.full((len(schema.domains),), -1, dtype=torch.int16)
    number[list(scope.domains)] = torch.arange(len(scope.domains), dtype=torch.int16)
    device = rows.domain.device
    inside = replace(
        rows,
        schema=own,
        labels=rows.labels[:, list(scope.tasks)],
        domain=number.to(device)[rows.domain.long()],
    )
    model_class: type[MultiModel] = import_module(BACKBONES[run.backbone].module).Model
    plan = MultiContext(
        own,
        assignment.settings.multi_model,
        torch_stream(run.seed, "init", "multi", scope.number),
        fusion_start=_start(assignment),
    )
    return MultiTrainer(
        model_class(plan).to(device),
        inside,
        assignment.settings,
        run.seed,
        assignment.checkpoint.part(scope.number),
        assignment.progress,
        assignment.settings.multi_model.weight_decay,
    )


def _start(assignment: Assignment) -> float | None:
    """Logit at which fusion scalars start, of a model that has some."""
    has_scalars = "protocol.start" in BACKBONES[assignment.run.backbone].reads
    return assignment.settings.protocol.start if has_scalars else None


def _can_train(
    assignment: Assignment, train: np.ndarray, validation: np.ndarray, scope: Scope
) -> bool:
    """Whether a model has training rows, and validation rows of both classes in some cell."""
    schema = assignment.interactions.schema
    labels = np.asarray(assignment.interactions.labels)[validation]
    domain = np.asarray(assignment.interactions.domain)[validation]
    cells = (labels[domain == d, t] for d in scope.domains for t in scope.tasks)
    if not len(train):
        reason = "it has no training rows"
    elif not any(len(np.unique(cell)) == 2 for cell in cells):
        reason = "its validation rows hold one class or none"
    else:
        return True
    domains = ", ".join(schema.domains[d] for d in scope.domains)
    names = ", ".join(schema.tasks[t] for t in scope.tasks)
    assignment.progress.say(f"the model of {domains} for {names} stays untrained: {reason}")
    return False
