"""Experts on rows that their backbone has not seen, fold by fold, and a gate over all of them."""

from dataclasses import replace

import numpy as np

from domain_experts.models.ctr import CTRModel
from domain_experts.models.own_experts import OwnExperts
from domain_experts.training.arms.methods import base
from domain_experts.training.assignment import Assignment, Outcome, Upstream
from domain_experts.training.deep import (
    add_experts,
    expert_of,
    is_expert,
    load_weights,
    new_gate,
    new_model,
    new_trainer,
    outcome,
    part_of,
    whole_lane,
)
from domain_experts.training.folds import fold_of_rows, training_on
from domain_experts.training.frozen import train_experts


def experts(assignment: Assignment) -> Outcome:
    """For each fold a backbone on the other folds, and experts over it on the fold's own rows.

    Expert k D + d is that of fold k and domain d. In all folds backbone and experts start from the
    same weights. The reported predictions are the mean of the folds' logits.

    Returns:
        Of the weights, those of the experts, and the backbones' behind the number of their fold.
        Lanes have the number of their fold, or of their expert.
    """
    folds = assignment.settings.crossfit.folds
    domains = len(assignment.interactions.schema.domains)
    fold = fold_of_rows(assignment, folds, "crossfit")
    backbones, own = [], []
    for k in range(folds):
        others = training_on(assignment, fold != k)
        checkpoint = assignment.checkpoint.part(f"backbone-{k}")
        backbone = base(replace(others, checkpoint=checkpoint))
        backbones.append(_with_lanes(backbone, {"all": str(k)}))
        trained = train_experts(
            replace(
                training_on(assignment, fold == k),
                checkpoint=assignment.checkpoint.part(f"experts-{k}"),
                # lanes count their own rows
                upstream={"base": Upstream(backbone.state, {"rows_visited": 0})},
            ),
            range(domains),
            1,
        )
        own.append(_with_lanes(trained, {str(d): str(k * domains + d) for d in range(domains)}))
    parts = [part for of_fold in zip(backbones, own, strict=True) for part in of_fold]
    return Outcome(
        logits={
            split: np.stack([made.logits[split] for made in own]).mean(0, dtype=np.float32)
            for split in own[0].logits
        },
        state={
            _numbered(name, k * domains): array
            for k, made in enumerate(own)
            for name, array in made.state.items()
        }
        | {f"{k}.{name}": a for k, made in enumerate(backbones) for name, a in made.state.items()},
        # the experts' own count holds the backbone that they stand on
        parameters={part: sum(made.parameters[part] for made in own) for part in own[0].parameters},
        curve=[point for made in parts for point in made.curve],
        lanes=[lane for made in parts for lane in made.lanes],
        experts=folds * domains,
        experts_moved=[moved for made in own for moved in made.experts_moved or ()],
    )


def gate(assignment: Assignment) -> Outcome:
    """A gate over the experts of all folds, on the base arm's backbone and all training rows."""
    model, rows = _experts_on_base(assignment)
    model.router = new_gate(assignment, model)
    trainer = new_trainer(assignment, model)
    weights = {n: p for n, p in trainer.model.named_parameters() if part_of(n) == "gate"}
    trainer.leg("gate", [whole_lane(assignment, weights, "gate")])
    return outcome(assignment, trainer, rows)


def own_mean(assignment: Assignment) -> Outcome:
    """The mean of each domain's own experts, on the base arm's backbone; nothing is trained."""
    model, rows = _experts_on_base(assignment)
    domains = len(assignment.interactions.schema.domains)
    model.router = OwnExperts(domains, assignment.settings.crossfit.folds)
    return outcome(assignment, new_trainer(assignment, model), rows)


def _experts_on_base(assignment: Assignment) -> tuple[CTRModel, int]:
    """The base arm's backbone with the experts of all folds, and the rows visited for both."""
    upstream = {name: assignment.upstream[name] for name in ("base", "experts_crossfit")}
    trained = {n: a for n, a in upstream["experts_crossfit"].weights.items() if is_expert(n)}
    domains = len(assignment.interactions.schema.domains)
    model = new_model(assignment)
    add_experts(model, assignment, domains * assignment.settings.crossfit.folds)
    load_weights(model, upstream["base"].weights)
    load_weights(model, trained)
    return model, sum(up.record["rows_visited"] for up in upstream.values())


def _numbered(name: str, first: int) -> str:
    """The name of an expert's weight when expert 0 is number `first`."""
    return f"{name.rpartition('.')[0]}.{first + expert_of(name)}"


def _with_lanes(made: Outcome, names: dict[str, str]) -> Outcome:
    """The same with other names of its lanes: those of several trainings must differ."""
    return replace(
        made,
        curve=[{**point, "lane": names[point["lane"]]} for point in made.curve],
        lanes=[replace(lane, lane=names[lane.lane]) for lane in made.lanes],
    )
