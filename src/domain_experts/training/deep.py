"""What the arms that train a CTR model share."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from domain_experts.errors import UserError
from domain_experts.models.build import build
from domain_experts.models.ctr import ClickModel, CTRContext, CTRModel
from domain_experts.models.low_rank import LowRank
from domain_experts.models.routers import Gate
from domain_experts.settings import Protocol
from domain_experts.training.assignment import Assignment, Outcome
from domain_experts.training.batches import Rows
from domain_experts.training.lanes import Lane, Part
from domain_experts.training.loop import Trainer
from domain_experts.training.losses import LOSSES
from domain_experts.training.streams import torch_stream

SHARED_LEG = "shared experts"


def context_of(
    assignment: Assignment, star_dim: int | None = None, tower: bool = False
) -> CTRContext:
    """What a run's model is built from; every arm of a seed starts from the same weights.

    Args:
        assignment: the run.
        star_dim: STAR's embedding width, which takes the place of the model's.
        tower: the model has a deep tower, whose switches matter.

    Raises:
        UserError: the data set's pretrained vectors are not as wide as the model's embeddings.
    """
    run, interactions = assignment.run, assignment.interactions
    protocol, model = assignment.settings.protocol, assignment.settings.model
    key = "model.embedding_dim"
    if star_dim is not None:
        key = "star.embedding_dim"
        model = model.model_copy(update={"embedding_dim": star_dim})
    for field, table in interactions.vectors.items():
        if table.shape[1] != model.embedding_dim:
            raise UserError(
                f"{run.dataset}: the pretrained vectors of field '{field}' have {table.shape[1]} "
                f"values, but the embedding has {model.embedding_dim}; set {key} to "
                f"{table.shape[1]} for it under `configurations` in params.yaml"
            )
    return CTRContext(
        interactions.schema,
        model,
        torch_stream(run.seed, "init", "backbone"),
        embedding_std=protocol.embedding_std,
        vectors={n: torch.from_numpy(np.array(t)) for n, t in interactions.vectors.items()},
        **_of_tower(protocol) if tower else {},
    )


def _of_tower(protocol: Protocol) -> dict[str, Any]:
    return {
        "tower_init": protocol.tower_init,
        "dropout_last": protocol.dropout_place == "after_activation",
    }


def new_model(assignment: Assignment) -> CTRModel:
    """The run's backbone.

    Raises:
        UserError: as `context_of` does.
    """
    return build(assignment.run.backbone, context_of(assignment, tower=True))


def add_experts(model: CTRModel, assignment: Assignment, experts: int, times: int = 1) -> None:
    """Append experts 0..experts-1, each from a stream of its own.

    Args:
        model: its tower gets them, in the layers that `adapter.layers` names.
        assignment: the run.
        experts: how many.
        times: the rank, over that of the settings.
    """
    adapter, init = assignment.settings.adapter, assignment.settings.protocol.expert_init
    new = partial(LowRank, alpha=adapter.alpha, init=init, times=times)
    for e in range(experts):
        stream = torch_stream(assignment.run.seed, "init", "expert", e)
        model.tower.add_expert(new, stream, adapter.layers)


def add_shared(model: CTRModel, assignment: Assignment, experts: int) -> None:
    """Append so many experts that serve every row, each from a stream of its own."""
    adapter, init = assignment.settings.adapter, assignment.settings.protocol.expert_init
    new = partial(LowRank, alpha=adapter.alpha, init=init)
    for e in range(experts):
        stream = torch_stream(assignment.run.seed, "init", "shared expert", e)
        model.tower.add_expert(new, stream, adapter.layers, shared=True)


def new_gate(assignment: Assignment, model: CTRModel) -> Gate:
    """The gate of the run's settings over the experts of a model.

    Raises:
        UserError: gate.top_k exceeds the number of experts.
    """
    gate = assignment.settings.gate
    if gate.top_k is not None and gate.top_k > model.experts:
        raise UserError(f"gate.top_k is {gate.top_k}, but there are {model.experts} experts")
    return Gate(
        len(assignment.interactions.schema.domains),
        model.experts,
        gate.dim,
        torch_stream(assignment.run.seed, "init", "gate"),
        features=model.tower_input() if gate.input == "features" else 0,
        layers=len(assignment.settings.model.hidden) if gate.per_layer else 1,
        top_k=gate.top_k,
        temperature=gate.temperature,
        load_balance=gate.load_balance,
        variance=gate.variance,
        noise=model.dropout if gate.noise else None,
    )


def frozen_experts(assignment: Assignment) -> CTRModel:
    """The trained backbone with the first `experts_per_domain` trained experts of each domain."""
    domains = len(assignment.interactions.schema.domains)
    experts = domains * assignment.settings.adapter.experts_per_domain
    model = new_model(assignment)
    add_experts(model, assignment, experts)
    load_weights(model, assignment.upstream["base"].weights)
    trained = assignment.upstream["experts"].weights
    add_shared(model, assignment, shared_in(trained))
    served = {n: a for n, a in trained.items() if is_shared(n) or expert_of(n) < experts}
    load_weights(model, served)
    return model


def gated(assignment: Assignment, weights: Mapping[str, np.ndarray]) -> CTRModel:
    """MoE-MLoRA's model with weights that it was trained to."""
    model = new_model(assignment)
    per_domain = assignment.settings.adapter.experts_per_domain
    add_experts(model, assignment, per_domain * len(assignment.interactions.schema.domains))
    add_shared(model, assignment, shared_in(weights))
    model.router = new_gate(assignment, model)
    load_weights(model, weights)
    return model


def rows_of_experts(assignment: Assignment, experts: int) -> int:
    """Rows visited to make the backbone and the first so many of the run's trained experts."""
    lanes = assignment.upstream["experts"].record["lanes"]
    shared = [lane["rows_visited"] for lane in lanes if lane["phase"] == SHARED_LEG]
    own = [lane["rows_visited"] for lane in lanes[len(shared) :][:experts]]
    return int(assignment.upstream["base"].record["rows_visited"] + sum(shared) + sum(own))


def load_weights(model: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Copy weights into the model.

    Raises:
        KeyError, RuntimeError: a weight that the model does not know, or of another shape.
    """
    own = model.state_dict()
    with torch.no_grad():
        for name, array in state.items():
            own[name].copy_(torch.from_numpy(array))


def is_expert(name: str) -> bool:
    """Whether a parameter's name belongs to an expert of the tower that serves some rows."""
    return name.startswith("tower.") and ".experts." in name


def is_shared(name: str) -> bool:
    """Whether a parameter's name belongs to an expert of the tower that serves every row."""
    return name.startswith("tower.") and ".shared." in name


def shared_in(weights: Iterable[str]) -> int:
    """Number of experts that serve every row among the parameters of those names."""
    return max((expert_of(name) + 1 for name in weights if is_shared(name)), default=0)


def expert_of(name: str) -> int:
    """Number of the expert that a parameter belongs to."""
    return int(name.rsplit(".", 1)[-1])


def part_of(name: str) -> Literal["backbone", "experts", "gate"]:
    """The part of a model that a parameter belongs to."""
    if name.startswith("router."):
        return "gate"
    return "experts" if is_expert(name) or is_shared(name) else "backbone"


def new_trainer(
    assignment: Assignment,
    model: ClickModel,
    carry_best: bool = False,
    carry_optimizer: bool = False,
    part: int | None = None,
    trainer: type[Trainer] = Trainer,
) -> Trainer:
    """A trainer for the run, or for one of its models, on its device, at its last checkpoint."""
    device = torch.device(assignment.device)
    run = assignment.run
    return trainer(
        model.to(device),
        Rows.of(assignment.interactions, device),
        assignment.settings,
        run.seed,
        assignment.checkpoint if part is None else assignment.checkpoint.part(part),
        assignment.progress,
        # the gradient of l2 |w|^2 is 2 l2 w
        decay=2 * assignment.settings.model.l2,
        loss=LOSSES[assignment.settings.protocol.loss],
        carry_best=carry_best,
        carry_optimizer=carry_optimizer,
        ranks=assignment.ranks,
    )


def whole_lane(
    assignment: Assignment, parameters: Mapping[str, nn.Parameter], part: Part = "model"
) -> Lane:
    """One lane over the rows of all domains."""
    return Lane(
        "all", assignment.index("train"), assignment.index("validation"), parameters, part=part
    )


def train_whole(
    assignment: Assignment,
    model: ClickModel,
    leg: str,
    epochs: int | None = None,
    trainer: type[Trainer] = Trainer,
) -> Outcome:
    """Train all weights of a model on the rows of all domains."""
    made = new_trainer(assignment, model, trainer=trainer)
    lane = whole_lane(assignment, dict(made.model.named_parameters()))
    made.leg(leg, [lane], epochs)
    return outcome(assignment, made)


def outcome(assignment: Assignment, trainer: Trainer, rows_before: int = 0) -> Outcome:
    """What a trained model gives; `rows_before` were visited to make what it started from."""
    model = trainer.model
    state = {name: value.cpu().numpy() for name, value in model.state_dict().items()}
    table = getattr(model.router, "table", None)
    weights = table() if table else None
    counts = dict.fromkeys(("backbone", "experts", "gate"), 0)
    for name, parameter in model.named_parameters():
        counts[part_of(name)] += parameter.numel()
    return Outcome(
        logits={
            split: trainer.logits(assignment.index(split)).cpu().numpy()
            for split in ("validation", "test")
        },
        state=state,
        parameters=counts,
        curve=trainer.curve,
        lanes=trainer.lanes,
        rows_before=rows_before,
        gate=None if weights is None else weights.detach().cpu().numpy(),
        experts=model.experts or None,
        experts_moved=model.experts_moved() or None,
    )
