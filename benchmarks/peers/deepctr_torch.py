"""DeepCTR-Torch: models and `fit` as they are.

A step is that of its `fit`, which has none of its own. The AutoInt of the package has heads side by
side that are as wide as the embedding only if that is heads x width; so it is in these benchmarks.
"""

import threading
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.peers.base import EMBEDDING_STD, Job
from domain_experts.models import autoint, dcn, xdeepfm
from domain_experts.schema import Schema
from domain_experts.settings import RunSettings

# on import the library asks the package index for news of itself, in a thread
with patch.object(threading.Thread, "start"):
    from deepctr_torch import models
    from deepctr_torch.inputs import DenseFeat, SparseFeat
    from deepctr_torch.models import multitask

CLASSES = {
    "mlp": "WDL",
    "wdl": "WDL",
    "nfm": "NFM",
    "autoint": "AutoInt",
    "pnn": "PNN",
    "deepfm": "DeepFM",
    "fibinet": "FiBiNET",
    "xdeepfm": "xDeepFM",
    "dcn": "DCN",
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "autoint": {"att_layer_num": autoint.LAYERS, "att_head_num": autoint.HEADS},
    "xdeepfm": {"cin_layer_size": xdeepfm.MAPS},
    "dcn": {"cross_num": dcn.LAYERS, "l2_reg_cross": 0},
}


def build(job: Job) -> Any:
    """The library's model of a job."""
    settings = job.settings.model
    dim = settings.embedding_dim
    if job.model in ("mmoe", "ple"):
        return _multi_task(job)
    columns = [SparseFeat(name, n, embedding_dim=dim) for name, n in job.data.schema.fields]
    options: dict[str, Any] = {
        "dnn_hidden_units": settings.hidden,
        "l2_reg_embedding": 0,
        "init_std": EMBEDDING_STD,
        **_OPTIONS.get(job.model, {}),
    }
    wide: tuple[Any, ...] = (columns,)
    if job.model == "pnn":
        wide = ()
    elif job.model == "mlp":
        # the plain tower is Wide&Deep without a wide part
        wide = ([],)
    if job.model not in ("pnn", "autoint"):
        options["l2_reg_linear"] = 0
    return getattr(models, CLASSES[job.model])(*wide, columns, **options)


def _multi_task(job: Job) -> Any:
    own = job.settings.multi_model
    columns = [
        SparseFeat(name, n, embedding_dim=own.embedding_dim) for name, n in job.data.schema.fields
    ]
    options: dict[str, Any] = {
        "expert_dnn_hidden_units": own.hidden,
        "gate_dnn_hidden_units": (),
        "tower_dnn_hidden_units": own.hidden[-1:],
        "l2_reg_embedding": 0,
        "init_std": EMBEDDING_STD,
        "task_names": job.data.schema.tasks,
        "task_types": ["binary"] * len(job.data.schema.tasks),
    }
    if job.model == "mmoe":
        return multitask.MMOE(columns, num_experts=own.mmoe.experts, **options)
    return multitask.PLE(
        columns,
        shared_expert_num=own.ple.shared_experts,
        specific_expert_num=own.ple.specific_experts,
        num_levels=own.ple.levels,
        **options,
    )


def export_wide_and_deep(schema: Schema, settings: RunSettings, path: Path) -> None:
    """Write an untrained Wide&Deep of these sizes as ONNX.

    It takes `x` (n, fields + dense) float32 and gives probabilities `y` (n, 1).
    """
    dim = settings.model.embedding_dim
    columns = [SparseFeat(name, n, embedding_dim=dim) for name, n in schema.fields]
    columns += [DenseFeat(name, 1) for name in schema.dense]
    model = models.WDL(columns, columns, dnn_hidden_units=settings.model.hidden).eval()
    x, free = torch.zeros(2, len(columns)), {0: "rows"}
    torch.onnx.export(
        model,
        (x,),
        str(path),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": free, "y": free},
    )


class Entrant:
    """A model with the library's `fit` and `predict`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model = build(job)
        # the library's towers start near zero, and learn nothing in the first epochs
        for module in self.model.modules():
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.xavier_normal_(module.weight)
        tasks = len(job.data.schema.tasks)
        loss: Any = "binary_crossentropy" if tasks == 1 else ["binary_crossentropy"] * tasks
        rate = job.settings.training.learning_rate
        self.model.compile(torch.optim.Adam(self.model.parameters(), lr=rate), loss)
        codes = np.stack(list(job.columns(job.first).values()), 1)
        self.batch = torch.from_numpy(codes).float(), torch.from_numpy(job.labels(job.first))

    def steps(self, count: int) -> None:
        model = self.model.train()
        x, y = self.batch
        for _ in range(count):
            found = model(x).squeeze(-1)
            model.optim.zero_grad()
            if y.ndim == 1:
                loss = model.loss_func(found, y, reduction="sum")
            else:
                parts = zip(model.loss_func, found.unbind(1), y.unbind(1), strict=True)
                loss = sum(f(p, own, reduction="sum") for f, p, own in parts)
            total = loss + model.get_regularization_loss() + model.aux_loss
            total.backward()
            model.optim.step()

    def epoch(self) -> None:
        job = self.job
        columns, labels = job.columns(job.train), job.labels(job.train)
        self.model.fit(columns, labels, batch_size=job.batch, epochs=1, verbose=0)

    def predict(self) -> np.ndarray:
        columns = self.job.columns(self.job.held_out)
        found: np.ndarray = self.model.predict(columns, batch_size=self.job.batch)
        return found.squeeze(-1) if found.shape[-1] == 1 else found
