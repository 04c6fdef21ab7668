"""What the arms that train a CTR model share."""

from collections.abc import Mapping
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
from domain_experts.training.batches import Rows
from domain_experts.training.lanes import Lane, Part
from domain_experts.training.loop import Trainer
from domain_experts.training.losses import LOSSES
from domain_experts.training.streams import torch_stream
from domain_experts.training.task import Outcome, Task


def context_of(task: Task, star_dim: int | None = None, tower: bool = False) -> CTRContext:
    """What a run's model is built from; every arm of a seed starts from the same weights.

    Args:
        task: the run.
        star_dim: STAR's embedding width, which takes the place of the model's.
        tower: the model has a deep tower, whose switches matter.

    Raises:
        UserError: the data set's pretrained vectors are not as wide as the model's embeddings.
    """
    run, interactions = task.run, task.interactions
    protocol, model = task.settings.protocol, task.settings.model
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


def new_model(task: Task) -> CTRModel:
    """The run's backbone.

    Raises:
        UserError: as `context_of` does.
    """
    return build(task.run.backbone, context_of(task, tower=True))


def add_experts(model: CTRModel, task: Task, experts: int, times: int = 1) -> None:
    """Append experts 0..experts-1, each from a stream of its own.

    Args:
        model: its tower gets them, in the layers that `adapter.layers` names.
        task: the run.
        experts: how many.
        times: the rank, over that of the settings.
    """
    adapter, init = task.settings.adapter, task.settings.protocol.expert_init
    new = partial(LowRank, alpha=adapter.alpha, init=init, times=times)
    for e in range(experts):
        stream = torch_stream(task.run.seed, "init", "expert", e)
        model.tower.add_expert(new, stream, adapter.layers)


def new_gate(task: Task, model: CTRModel) -> Gate:
    """The gate of the run's settings over the experts of a model.

    Raises:
        UserError: gate.top_k exceeds the number of experts.
    """
    gate = task.settings.gate
    if gate.top_k is not None and gate.top_k > model.experts:
        raise UserError(f"gate.top_k is {gate.top_k}, but there are {model.experts} experts")
    return Gate(
        len(task.interactions.schema.domains),
        model.experts,
        gate.dim,
        torch_stream(task.run.seed, "init", "gate"),
        features=model.tower_input() if gate.input == "features" else 0,
        layers=len(task.settings.model.hidden) if gate.per_layer else 1,
        top_k=gate.top_k,
        temperature=gate.temperature,
        load_balance=gate.load_balance,
    )


def frozen_experts(task: Task) -> CTRModel:
    """The trained backbone with the first `experts_per_domain` trained experts of each domain."""
    domains = len(task.interactions.schema.domains)
    experts = domains * task.settings.adapter.experts_per_domain
    model = new_model(task)
    add_experts(model, task, experts)
    load_weights(model, task.upstream["base"].weights)
    trained = task.upstream["experts"].weights
    load_weights(model, {n: array for n, array in trained.items() if expert_of(n) < experts})
    return model


def rows_of_experts(task: Task, experts: int) -> int:
    """Rows visited to make the backbone and the first so many of the run's trained experts."""
    lanes = task.upstream["experts"].record["lanes"]
    visited = [lane["rows_visited"] for lane in lanes[:experts]]
    return int(task.upstream["base"].record["rows_visited"] + sum(visited))


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
    """Whether a parameter's name belongs to an expert of the tower."""
    return name.startswith("tower.") and ".experts." in name


def expert_of(name: str) -> int:
    """Number of the expert that a parameter belongs to."""
    return int(name.rsplit(".", 1)[-1])


def part_of(name: str) -> Literal["backbone", "experts", "gate"]:
    """The part of a model that a parameter belongs to."""
    if name.startswith("router."):
        return "gate"
    return "experts" if is_expert(name) else "backbone"


def new_trainer(
    task: Task,
    model: ClickModel,
    carry_best: bool = False,
    carry_optimizer: bool = False,
    part: int | None = None,
) -> Trainer:
    """A trainer for the run, or for one of its models, on its device, at its last checkpoint."""
    device = torch.device(task.device)
    run = task.run
    return Trainer(
        model.to(device),
        Rows.of(task.interactions, device),
        task.settings,
        run.seed,
        task.checkpoint if part is None else task.checkpoint.part(part),
        task.progress,
        # the gradient of l2 |w|^2 is 2 l2 w
        decay=2 * task.settings.model.l2,
        loss=LOSSES[task.settings.protocol.loss],
        carry_best=carry_best,
        carry_optimizer=carry_optimizer,
    )


def whole_lane(task: Task, parameters: Mapping[str, nn.Parameter], part: Part = "model") -> Lane:
    """One lane over the rows of all domains."""
    return Lane("all", task.index("train"), task.index("validation"), parameters, part=part)


def train_whole(task: Task, model: ClickModel, phase: str, epochs: int | None = None) -> Outcome:
    """Train all weights of a model on the rows of all domains."""
    trainer = new_trainer(task, model)
    lane = whole_lane(task, dict(trainer.model.named_parameters()))
    trainer.phase(phase, [lane], epochs)
    return outcome(task, trainer)


def outcome(task: Task, trainer: Trainer, rows_before: int = 0) -> Outcome:
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
            split: trainer.logits(task.index(split)).cpu().numpy()
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
