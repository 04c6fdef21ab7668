"""FuxiCTR: loop, loader and layers as they are.

The package brings no models of its own but for long sequences; they are put together here from its
layers, each by its equation. The CIN has no halves: its first layer is as wide as the half that
goes on in the package.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch import layers
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from benchmarks.peers.base import EMBEDDING_STD, Job
from domain_experts.models import autoint, dcn, xdeepfm

LABEL = "label"


def feature_map(job: Job, folder: Path) -> Any:
    """The library's description of the fields."""
    found = FeatureMap("bench", str(folder))
    for name, size in job.data.schema.fields:
        found.features[name] = {"type": "categorical", "source": "", "vocab_size": size}
    found.labels = [LABEL]
    found.num_fields = found.get_num_fields()
    found.set_column_index()
    return found


class Attention(nn.Module):
    """AutoInt's layer: multi-head attention over fields with a residual, from its dot product."""

    def __init__(self, d_in: int) -> None:
        super().__init__()
        width = autoint.HEADS * autoint.HEAD_WIDTH
        self.q, self.k, self.v, self.r = (nn.Linear(d_in, width, bias=False) for _ in range(4))
        self.dot = layers.ScaledDotProductAttention()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, F, d) to (B, F, heads x width)."""

        def heads(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], autoint.HEADS, -1).transpose(1, 2)

        attended, _ = self.dot(heads(self.q(x)), heads(self.k(x)), heads(self.v(x)))
        together: Tensor = attended.transpose(1, 2).flatten(2)
        return torch.relu(together + self.r(x))


class Model(BaseModel):
    """A model on the library's base class, which has its training loop."""

    def __init__(self, job: Job, features: Any, folder: Path) -> None:
        super().__init__(features, gpu=-1, verbose=0, model_root=str(folder), metrics=["AUC"])
        settings, F = job.settings.model, len(job.data.schema.fields)
        d, self.kind = settings.embedding_dim, job.model
        start = f"partial(nn.init.normal_, std={EMBEDDING_STD})"
        self.embedding = layers.FeatureEmbedding(features, d, embedding_initializer=start)
        pairs, deep, joined = F * (F - 1) // 2, F * d, 0
        match job.model:
            case "wdl":
                self.wide = layers.LogisticRegression(features)
            case "deepfm":
                self.wide = layers.FactorizationMachine(features)
            case "nfm":
                self.wide = layers.LogisticRegression(features)
                self.pool = layers.InnerProductInteraction(F, output="bi_interaction")
                deep = d
            case "pnn":
                self.products = layers.InnerProductInteraction(F, output="inner_product")
                deep += pairs
            case "xdeepfm":
                self.wide = layers.LogisticRegression(features)
                half, last = xdeepfm.MAPS[0] // 2, xdeepfm.MAPS[-1]
                self.cin = layers.CompressedInteractionNet(F, [half, last])
            case "autoint":
                self.wide = layers.LogisticRegression(features)
                width = autoint.HEADS * autoint.HEAD_WIDTH
                widths = [d, *[width] * (autoint.LAYERS - 1)]
                self.attention = nn.Sequential(*map(Attention, widths))
                joined = F * width
            case "fibinet":
                self.wide = layers.LogisticRegression(features)
                self.senet = layers.SqueezeExcitation(F)
                self.bilinear = layers.BilinearInteractionV2(F, d)
                self.bilinear_senet = layers.BilinearInteractionV2(F, d)
                deep = 2 * pairs * d
            case "dcn":
                self.wide = layers.LogisticRegression(features)
                self.cross = layers.CrossNet(F * d, dcn.LAYERS)
                joined = F * d
        self.tower = layers.MLP_Block(deep, list(settings.hidden))
        self.head = nn.Linear(settings.hidden[-1] + joined, 1)
        self.compile("adam", "binary_cross_entropy", job.settings.training.learning_rate)
        self.reset_parameters()
        # what `fit` sets before the first epoch; no evaluation within one
        self._max_gradient_norm = 10.0
        self._eval_steps, self._total_steps, self._stop_training = sys.maxsize, 0, False

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        X = self.get_inputs(inputs)
        return {"y_pred": torch.sigmoid(self.logits(X, self.embedding(X)))}

    def logits(self, X: dict[str, Tensor], e: Tensor) -> Tensor:
        """Logits (B, 1) from codes and embeddings e (B, F, d)."""
        x = e.flatten(1)
        logits: Tensor
        match self.kind:
            case "mlp":
                logits = self.head(self.tower(x))
            case "wdl":
                logits = self.wide(X) + self.head(self.tower(x))
            case "deepfm":
                logits = self.wide(X, e) + self.head(self.tower(x))
            case "nfm":
                logits = self.wide(X) + self.head(self.tower(self.pool(e)))
            case "pnn":
                logits = self.head(self.tower(torch.cat([x, self.products(e)], 1)))
            case "xdeepfm":
                logits = self.wide(X) + self.cin(e) + self.head(self.tower(x))
            case "autoint":
                joined = torch.cat([self.attention(e).flatten(1), self.tower(x)], 1)
                logits = self.wide(X) + self.head(joined)
            case "fibinet":
                p = torch.cat([self.bilinear_senet(self.senet(e)), self.bilinear(e)], 1)
                logits = self.wide(X) + self.head(self.tower(p.flatten(1)))
            case "dcn":
                logits = self.wide(X) + self.head(torch.cat([self.cross(x), self.tower(x)], 1))
        return logits


class Entrant:
    """A model with the library's loader of .npz files, which works in the process itself."""

    def __init__(self, job: Job) -> None:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            features = feature_map(job, folder)
            for part, rows in (("train", job.train), ("held_out", job.held_out)):
                columns: dict[str, Any] = {**job.columns(rows), LABEL: job.labels(rows)}
                np.savez(folder / f"{part}.npz", **columns)
            options = {"batch_size": job.batch, "num_workers": 0}
            self.train, self.held_out = RankDataLoader(
                features,
                stage="train",
                train_data=str(folder / "train.npz"),
                valid_data=str(folder / "held_out.npz"),
                **options,
            )
            self.model = Model(job, features, folder)
        self.batch = {name: torch.from_numpy(own) for name, own in job.columns(job.first).items()}
        self.batch[LABEL] = torch.from_numpy(job.labels(job.first))

    def steps(self, count: int) -> None:
        self.model.train_epoch([self.batch] * count)

    def epoch(self) -> None:
        self.model.train_epoch(self.train)

    def predict(self) -> np.ndarray:
        found: np.ndarray = self.model.predict(self.held_out)
        return found
