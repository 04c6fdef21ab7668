"""M3oE's training: weights by epochs, fusion scalars by one step after each (section 2.6)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from domain_experts.models.embedding import have_sparse_gradients
from domain_experts.models.multi.base import MultiModel
from domain_experts.settings import RunSettings
from domain_experts.training.adam import Adam
from domain_experts.training.batches import Rows, mixed
from domain_experts.training.checkpoint import Checkpoint
from domain_experts.training.lanes import Lane
from domain_experts.training.loop import Trainer
from domain_experts.training.losses import LOSSES, Loss
from domain_experts.training.progress import Progress
from domain_experts.training.streams import numpy_stream


class MultiTrainer(Trainer):
    """Trains a multi-domain multi-task model.

    After each epoch of the lower level, which trains the weights, the upper level takes one step on
    the fusion scalars, if the model has some. Its loss is that of one batch; with `upper_order` 2
    it is taken after one gradient step of the weights, through which it is differentiated (DARTS,
    Liu et al. 2019, eq. 6). The curve records the weights that the scalars give.
    """

    model: MultiModel

    def __init__(
        self,
        model: MultiModel,
        rows: Rows,
        settings: RunSettings,
        seed: int,
        checkpoint: Checkpoint,
        progress: Progress,
        decay: float,
    ) -> None:
        self.protocol = settings.protocol
        self.scalars = model.scalars()
        self.upper = Adam([], 0.0)
        if self.scalars:
            groups = [(list(self.scalars.values()), decay)]
            self.upper = Adam(groups, self.protocol.upper_learning_rate)
        super().__init__(
            model,
            rows,
            settings,
            seed,
            checkpoint,
            progress,
            decay=decay,
            loss=LOSSES[self.protocol.loss],
        )

    @property
    def optimizers(self) -> dict[str, Adam]:
        return {**super().optimizers, "upper": self.upper}

    def _adam(self, trained: Mapping[str, nn.Parameter]) -> Adam:
        if self.scalars and self.protocol.scalars in ("upper", "fixed"):
            apart = set(map(id, self.scalars.values()))
            trained = {name: p for name, p in trained.items() if id(p) not in apart}
        return super()._adam(trained)

    def _interval(self, leg: str, interval: int, lanes: Sequence[Lane]) -> dict[Lane, float]:
        lower = super()._interval(leg, interval, lanes)
        epoch, rest = divmod(interval, self.settings.training.validations)
        if not rest and self.scalars and self.protocol.scalars in ("upper", "both"):
            for lane in lanes:
                self._upper_step(lane, (leg, lane.name, epoch))
        return lower

    def _upper_step(self, lane: Lane, purpose: tuple[object, ...]) -> None:
        protocol, scalars = self.protocol, list(self.scalars.values())
        moved: dict[str, Tensor] = {}
        if protocol.upper_order == 2:
            apart = set(map(id, scalars))
            weights = {n: p for n, p in self.model.named_parameters() if id(p) not in apart}
            loss = self._batch_loss(self.loss, lane.train, {}, (*purpose, "unrolled"))
            slopes = torch.autograd.grad(
                loss, list(weights.values()), create_graph=True, materialize_grads=True
            )
            rate = self.settings.training.learning_rate
            moved = {
                name: weight - rate * slope
                for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }
        rows = lane.train if protocol.upper_rows == "train" else lane.validation
        loss = self._batch_loss(LOSSES[protocol.upper_loss], rows, moved, (*purpose, "upper"))
        # Adam would blow up the penalty of a scalar that the model does not use to whole steps
        slopes = torch.autograd.grad(loss, scalars, allow_unused=True)
        for scalar, slope in zip(scalars, slopes, strict=True):
            scalar.grad = slope
        self.upper.step()
        self.upper.zero_grad()

    def _batch_loss(
        self,
        loss: Loss,
        rows: np.ndarray,
        weights: Mapping[str, Tensor],
        purpose: tuple[object, ...],
    ) -> Tensor:
        """Loss of a random batch, `weights` in the place of the model's."""
        stream = numpy_stream(self.seed, *purpose)
        batch = mixed(rows, self.settings.training.batch_size, stream)[0]
        index = torch.from_numpy(batch).to(self.rows.domain.device)
        fields, dense, domain, labels = self.rows.take(index)
        # running statistics are the lower level's: copies follow this batch
        statistics = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        # torch cannot differentiate through a sparse gradient
        have_sparse_gradients(self.model, False)
        with self._autocast():
            logits = functional_call(self.model, {**weights, **statistics}, (fields, dense, domain))
        have_sparse_gradients(self.model, self._sparse)
        weight = self.rows.weight_of(index)
        return loss(logits.to(dense.dtype), labels, domain, [len(batch)], weight).sum()

    def _select(
        self, leg: str, interval: int, lane: Lane, loss: float | None, patience: int
    ) -> None:
        super()._select(leg, interval, lane, loss, patience)
        if self.scalars:
            self.curve[-1]["fusion"] = self.fusion()

    def fusion(self) -> dict[str, float]:
        """The weights that the fusion scalars give now."""
        return {name: scalar.sigmoid().item() for name, scalar in self.scalars.items()}

    def _brings_back(self, lanes: Sequence[Lane]) -> bool:
        stopped = all(self._states[lane.name].stopped for lane in lanes)
        return stopped or self.protocol.restore == "always"
