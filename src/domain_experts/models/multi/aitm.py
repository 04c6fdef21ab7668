"""AITM (Xi et al. 2021, arXiv 2105.08489): what a task learnt is handed on to the task after it.

    q_t     = layers_t(x),  z_1 = q_1
    p_t     = layer_t(z_t)                                            (information to hand on)
    z_t     = AIT_t(p_{t-1}, q_t) = sum_{u in {p, q}} w_u h_1(u)      (adaptive transfer)
    w_u     = softmax_u(h_2(u)' h_3(u) / sqrt(k))
    logit_t = tower_{d,t}(z_t)
    L      += alpha mean sum_t max(y_t - y_{t-1}, 0),  y = sigmoid(logit)     (calibrator)

h_1, h_2 and h_3 are linear, without biases. Tasks stand in the order of the steps that they are:
nobody takes one without the step before, and the calibrator says so to the loss. Where that does
not hold of the data, alpha should be 0. torch-rechub leaves the calibrator out, and the authors'
code takes the sum over the rows of a batch, not the mean.
"""

import math

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Layer, Towers, uniform


class Transfer(nn.Module):
    """AIT: sum_u softmax_u(h_2(u)' h_3(u) / sqrt(k)) h_1(u) of two vectors u."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.h = uniform(generator, width, 3, width, width)

    def forward(self, u: Tensor) -> Tensor:
        """Map u (B, 2, k) to (B, k)."""
        value, query, key = (u @ h for h in self.h)
        weights = ((query * key).sum(2) / math.sqrt(u.shape[2])).softmax(1)
        moved: Tensor = (weights.unsqueeze(2) * value).sum(1)
        return moved


class Model(MultiModel):
    """AITM; a task's layers serve all domains, and each objective has a tower."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        width = hidden[-1]
        self.alpha = context.settings.aitm.calibration
        self.bottoms = Experts(tasks, (self.width, *hidden), generator)
        self.handed_on = nn.ModuleList(Layer(1, width, width, generator) for _ in range(1, tasks))
        self.transfers = nn.ModuleList(Transfer(width, generator) for _ in range(1, tasks))
        self.towers = Towers(domains, tasks, width, width, generator)
        self._excess: Tensor | None = None

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        first, *others = self.bottoms(x).unbind(1)
        z = [first]
        parts = zip(self.handed_on, self.transfers, others, strict=True)
        for layer, transfer, q in parts:
            z.append(transfer(torch.stack([layer(z[-1]).squeeze(1), q], 1)))
        logits: Tensor = self.towers(torch.stack(z, 1), counts)
        self._excess = excess(logits) if self.training and self.alpha and others else None
        return logits

    def auxiliary_loss(self) -> Tensor | None:
        """The behavioural expectation calibrator."""
        return None if self._excess is None else self.alpha * self._excess


def excess(logits: Tensor) -> Tensor:
    """By how much a step is more probable than the one before: mean over rows, sum over tasks.

    Args:
        logits: (B, T) of the steps in their order.
    """
    return logits.sigmoid().diff(dim=1).clamp(min=0).sum(1).mean()
