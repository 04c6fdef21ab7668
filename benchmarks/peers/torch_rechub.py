"""torch-rechub: models, trainers and loader as they are.

Its towers have BatchNorm, which cannot be left out, and its linear parts weigh the embeddings, not
the ids.
"""

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torch_rechub.basic.features import SparseFeature
from torch_rechub.basic.initializers import RandomNormal
from torch_rechub.models.multi_task import MMOE, PLE
from torch_rechub.models.ranking import DCN, AutoInt, DeepFM, FiBiNet, WideDeep
from torch_rechub.trainers import CTRTrainer, MTLTrainer
from torch_rechub.utils.data import PredictDataset, TorchDataset

from benchmarks.peers.base import EMBEDDING_STD, Job
from domain_experts.models import autoint, dcn


def build(job: Job) -> torch.nn.Module:
    """The library's model of a job."""
    own, multi = job.settings.model, job.settings.multi_model
    tasks = len(job.data.schema.tasks)
    dim = own.embedding_dim if tasks == 1 else multi.embedding_dim
    init = RandomNormal(0, EMBEDDING_STD)
    fields = [SparseFeature(name, n, dim, initializer=init) for name, n in job.data.schema.fields]
    mlp: dict[str, Any] = {"dims": list(own.hidden)}
    experts: dict[str, Any] = {"dims": list(multi.hidden)}
    towers: list[dict[str, Any]] = [{"dims": [multi.hidden[-1]]}] * tasks
    kinds = ["classification"] * tasks
    made: torch.nn.Module
    match job.model:
        case "wdl":
            made = WideDeep(fields, fields, mlp)
        case "deepfm":
            made = DeepFM(fields, fields, mlp)
        case "autoint":
            made = AutoInt(fields, [], autoint.LAYERS, autoint.HEADS, mlp_params=mlp)
        case "fibinet":
            made = FiBiNet(fields, mlp)
        case "dcn":
            made = DCN(fields, dcn.LAYERS, mlp)
        case "mmoe":
            made = MMOE(fields, kinds, multi.mmoe.experts, experts, towers)
        case "ple":
            ple = multi.ple
            numbers = (ple.levels, ple.specific_experts, ple.shared_experts)
            made = PLE(fields, kinds, *numbers, experts, towers)
        case other:
            raise ValueError(f"no model '{other}'")
    return made


class Entrant:
    """A model with the library's trainer."""

    def __init__(self, job: Job) -> None:
        self.model = model = build(job)
        options = {"optimizer_params": {"lr": job.settings.training.learning_rate}}
        tasks = len(job.data.schema.tasks)
        self.trainer: Any = (
            CTRTrainer(model, **options)
            if tasks == 1
            else MTLTrainer(model, ["classification"] * tasks, **options)
        )

        def rows_of(rows: np.ndarray) -> Any:
            return TorchDataset(job.columns(rows), job.labels(rows))

        # the trainer of several tasks predicts from rows without labels
        held_out = (
            rows_of(job.held_out) if tasks == 1 else PredictDataset(job.columns(job.held_out))
        )
        self.train = DataLoader(rows_of(job.train), job.batch, shuffle=True)
        self.held_out = DataLoader(held_out, job.batch)
        self.batch = next(iter(DataLoader(rows_of(job.first), job.batch)))

    def steps(self, count: int) -> None:
        self.trainer.train_one_epoch([self.batch] * count)

    def epoch(self) -> None:
        self.trainer.train_one_epoch(self.train)

    def predict(self) -> np.ndarray:
        return np.array(self.trainer.predict(self.trainer.model, self.held_out))
