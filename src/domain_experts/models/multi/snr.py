"""SNR-Trans (Ma et al. 2019): sub-networks whose connections are learnt, and may be cut.

    y_j  = sum_i z_{j,i} u_i W_{j,i}             (from the sub-networks i of a layer to each next j)
    z    = min(1, max(0, s (zeta - gamma) + gamma))
    s    = sigmoid((log r - log(1 - r) + log alpha) / beta),  r uniform on (0, 1)
    L   += lambda sum sigmoid(log alpha - beta log(-gamma / zeta))            (connections kept)

The first sub-networks see x; the last connections lead to the tasks, whose towers see y_t. z is the
hard concrete variable of Louizos et al. 2018 with their beta, gamma and zeta. r is drawn once a
training step from the stream of dropout masks; elsewhere s is sigmoid(log alpha). MMLRec draws r
once, trains it, and divides log alpha alone by beta.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Layer, Towers, uniform
from domain_experts.models.multi.rows import noise_of

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
EDGE = 1e-6
"""Least distance of r from 0 and 1."""


class Connections(nn.Module):
    """y_j = sum_i z_{j,i} u_i W_{j,i}: from one set of vectors to another of the same width."""

    def __init__(self, ends: int, starts: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W = uniform(generator, starts * width, ends, starts, width, width)
        self.log_alpha = nn.Parameter(torch.zeros(ends, starts))

    def z(self, stream: np.random.Generator | None) -> Tensor:
        """Coding variables (ends, starts), drawn from a stream or, without one, their middle."""
        log_alpha = self.log_alpha
        if stream is None:
            s = log_alpha.sigmoid()
        else:
            r = torch.from_numpy(stream.random(log_alpha.shape).clip(EDGE, 1 - EDGE))
            s = ((r.logit().to(log_alpha) + log_alpha) / BETA).sigmoid()
        return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    def kept(self) -> Tensor:
        """How many connections are expected to stay."""
        return (self.log_alpha - BETA * math.log(-GAMMA / ZETA)).sigmoid().sum()

    def forward(self, u: Tensor, stream: np.random.Generator | None) -> Tensor:
        """Map u (B, starts, h) to (B, ends, h)."""
        coded = self.z(stream)[..., None, None] * self.W
        matrix = coded.permute(1, 2, 0, 3).flatten(2).flatten(0, 1)
        return (u.flatten(1) @ matrix).view(-1, len(coded), u.shape[2])


class Model(MultiModel):
    """SNR-Trans; sub-networks serve all domains, and each objective has a tower."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.snr, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.penalty = own.penalty
        self.layers = nn.ModuleList(
            Layer(own.sub_networks, i, o, generator) for i, o in pairwise((self.width, *own.hidden))
        )
        ends = [own.sub_networks] * (len(own.hidden) - 1) + [tasks]
        self.connections = nn.ModuleList(
            Connections(end, own.sub_networks, width, generator)
            for end, width in zip(ends, own.hidden, strict=True)
        )
        self.towers = Towers(domains, tasks, own.hidden[-1], own.hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        y, stream = x, noise_of(self.dropout)
        for layer, connections in zip(self.layers, self.connections, strict=True):
            y = connections(layer(y), stream)
        logits: Tensor = self.towers(y, counts)
        return logits

    def auxiliary_loss(self) -> Tensor | None:
        """The expected number of connections, times lambda."""
        kept = [part.kept() for part in self.modules() if isinstance(part, Connections)]
        return self.penalty * torch.stack(kept).sum()
