"""What the arms that train a CTR model share."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from domain_experts.models.build import build
from domain_experts.models.ctr import CTRModel
from domain_experts.training.batches import Rows
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.loop import Lane, Trainer
from domain_experts.training.streams import torch_stream
from domain_experts.training.task import Outcome, Task


def new_model(task: Task) -> CTRModel:
    """The run's backbone; every arm of a seed starts from the same weights."""
    run = task.run
    stream = torch_stream(run.seed, "init", "backbone")
    init = run.settings.protocol.tower_init
    return build(run.backbone, task.interactions.schema, run.settings.model, init, stream)


def add_experts(model: CTRModel, task: Task, experts: int) -> None:
    """Append experts 0..experts-1, each from a stream of its own."""
    settings, seed = task.run.settings, task.run.seed
    for e in range(experts):
        stream = torch_stream(seed, "init", "expert", e)
        model.tower.add_expert(settings.adapter.alpha, settings.protocol.expert_init, stream)


def load_weights(model: nn.Module, state: Mapping[str, np.ndarray]) -> None:
    """Copy the weights that the model has a parameter for.

    Raises:
        KeyError, RuntimeError: a weight that the model does not know, or of another shape.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, array in state.items():
            parameters[name].copy_(torch.from_numpy(array))


def is_expert(name: str) -> bool:
    """Whether a parameter's name belongs to an expert of the tower."""
    return name.startswith("tower.") and name.split(".")[-2] in ("A", "B", "c")


def expert_of(name: str) -> int:
    """Number of the expert that a parameter belongs to."""
    return int(name.rsplit(".", 1)[-1])


def new_trainer(task: Task, model: CTRModel) -> Trainer:
    """A trainer for the run, on its device, at its last checkpoint."""
    device = torch.device(task.device)
    run = task.run
    return Trainer(
        model.to(device),
        Rows.of(task.interactions, device),
        run.settings,
        run.seed,
        Checkpoint(task.checkpoint, task.key),
        task.progress,
    )


def whole_lane(task: Task, parameters: Mapping[str, nn.Parameter]) -> Lane:
    """One lane over the rows of all domains."""
    return Lane("all", task.index("train"), task.index("validation"), parameters)


def outcome(task: Task, trainer: Trainer) -> Outcome:
    """Predictions and weights of a trained model, the gate's table included if it has one."""
    model = trainer.model
    state = {name: p.detach().cpu().numpy() for name, p in model.named_parameters()}
    table = getattr(model.router, "table", None)
    counts = dict.fromkeys(("backbone", "experts", "gate"), 0)
    for name, array in state.items():
        part = "gate" if name.startswith("router.") else "backbone"
        counts["experts" if is_expert(name) else part] += array.size
    return Outcome(
        logits={
            split: trainer.logits(task.index(split)).cpu().numpy()
            for split in ("validation", "test")
        },
        state=state,
        parameters=counts,
        curve=trainer.curve,
        gate=table().detach().cpu().numpy() if table else None,
        experts=model.tower.experts or None,
    )
