"""The package as a contestant, with its own training loop."""

import shutil
import weakref
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from torch import nn

from benchmarks.peers.base import Job
from domain_experts.data.interactions import Interactions
from domain_experts.models.build import build
from domain_experts.models.ctr import ClickModel, CTRContext
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.star import Star
from domain_experts.registry import BACKBONES
from domain_experts.settings import RunSettings
from domain_experts.training.batches import Rows
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.lanes import Lane
from domain_experts.training.loop import Trainer
from domain_experts.training.losses import Loss, mean
from domain_experts.training.progress import Progress


class Loop(Trainer):
    """The package's training loop, an epoch at a time and without validation.

    It trains `parameters`, or else all of the model.
    """

    def __init__(
        self,
        model: ClickModel,
        data: Interactions,
        settings: RunSettings,
        decay: float,
        loss: Loss = mean,
        parameters: Mapping[str, nn.Parameter] | None = None,
    ) -> None:
        # a slow leg saves its state, which no other loop may go on from
        folder = mkdtemp(prefix="bench-")
        weakref.finalize(self, shutil.rmtree, folder)
        super().__init__(
            model,
            Rows.of(data, torch.device("cpu")),
            settings,
            seed=0,
            checkpoint=Checkpoint(Path(folder, "loop.safetensors"), "bench"),
            progress=Progress("bench"),
            decay=decay,
            loss=loss,
        )
        self.parameters = parameters or dict(model.named_parameters())
        self._prepare(self.parameters)
        self.epochs = 0

    def epoch(self, rows: np.ndarray) -> float:
        """One epoch over some rows: batches, forward, loss, backward, Adam; returns the loss."""
        (loss,) = self.side_by_side([Lane("all", rows, rows[:0], self.parameters)])
        return loss

    def side_by_side(self, lanes: Sequence[Lane]) -> list[float]:
        """One epoch of several lanes; returns their losses."""
        self.epochs += 1
        return [*self._interval("bench", self.epochs, lanes).values()]


class Entrant:
    """The package's model of a job."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model = new_model(job)
        self.loop = Loop(self.model, job.data, job.settings, decay=0.0)
        self.first = job.first

    def steps(self, count: int) -> None:
        """An epoch of so many batches, drawn from as many copies of the first rows."""
        self.loop.epoch(np.tile(self.first, count))

    def epoch(self) -> None:
        self.loop.epoch(self.job.train)

    def predict(self) -> np.ndarray:
        return self.loop.logits(self.job.held_out).squeeze(1).numpy()


def new_model(job: Job) -> ClickModel:
    """The package's model of a job."""
    generator = torch.Generator().manual_seed(0)
    if job.model == "star":
        plan_of_star = CTRContext(job.data.schema, job.settings.model, generator)
        return Star(plan_of_star, auxiliary=True)
    if BACKBONES[job.model].family == "ctr":
        return build(job.model, CTRContext(job.data.schema, job.settings.model, generator))
    start = job.settings.protocol.start
    plan = MultiContext(job.data.schema, job.settings.multi_model, generator, fusion_start=start)
    made: ClickModel = import_module(BACKBONES[job.model].module).Model(plan)
    return made
