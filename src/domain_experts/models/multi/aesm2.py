"""AESM2 (Zou et al. 2022, arXiv 2205.14321): experts that a scenario, then a task, picks itself.

    G      = [h, s] W + b                                     (logits: kinds x experts)
    P      = softmax over kinds of G + noise
    own    = experts k with the least KL(onehot_j, P_k),  shared = those with the least KL(1/m, P_k)
    h'     = sum_k softmax_k(G_j) E_k(h)  over own and shared experts alone
    L     += lambda (mean KL(onehot_j, P_k) of the own + mean KL(1/m, P_k) of the shared)

Layers of scenarios come first: kind j of m is the row's domain d, and s its embedding e_d. Layers
of tasks follow, with one pass for each task t: kind j is t, and s is [e_d, e_t]. The noise is
normal, is there in training alone and does not enter G; with one kind all experts are picked.

This is the public code, but for what the text cannot mean: there logits of experts that were not
picked are multiplied by -10^9, which makes the largest of those that are negative, and logits of
experts picked twice are doubled. It also has batch norms in the gates. A domain's tree is one
level deep here.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import EMBEDDING_STD, MultiContext, MultiModel
from domain_experts.models.multi.blocks import Layer, Towers, uniform
from domain_experts.models.multi.rows import noise_of, of_rows
from domain_experts.models.multi.settings import AESM2Settings


class Selection(nn.Module):
    """A layer of experts, some of which are picked for the kind (scenario or task) of a row."""

    def __init__(
        self,
        kinds: int,
        indicator: int,
        widths: tuple[int, int],
        own: AESM2Settings,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        d_in, d_out = widths
        self.own, self.kinds = own, kinds
        self.experts = Layer(own.experts, d_in, d_out, generator)
        seen = d_in + indicator
        self.W = uniform(generator, seen, seen, kinds * own.experts)
        self.b = uniform(generator, seen, kinds * own.experts)

    def forward(
        self, h: Tensor, s: Tensor, kind: Tensor, stream: np.random.Generator | None
    ) -> tuple[Tensor, Tensor | None]:
        """Map h (B, d_in) to (B, d_out), with what is added to the loss, if experts are picked.

        Args:
            h: input.
            s: indicators (B, indicator) of the kinds.
            kind: of each row (B,).
            stream: of the noise, or None.
        """
        G = torch.addmm(self.b, torch.cat([h, s], 1), self.W).view(-1, self.kinds, self.own.experts)
        at = kind.view(-1, 1, 1).expand(-1, 1, G.shape[2])
        logits, loss = G.gather(1, at).squeeze(1), None
        if self.kinds > 1:
            picked, loss = self._picked(G, at, stream)
            logits = logits.masked_fill(~picked, -torch.inf)
        weights = logits.softmax(1).unsqueeze(1)
        return torch.bmm(weights, self.experts(h)).squeeze(1), loss

    def _picked(
        self, G: Tensor, at: Tensor, stream: np.random.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Which experts (B, n) are picked, and the mean KL of the own and of the shared ones."""
        if stream is not None:
            noise = torch.from_numpy(stream.standard_normal(G.shape, np.float32))
            G = G + self.own.noise * noise.to(G)
        log_P = G.log_softmax(1)
        apart = -log_P.gather(1, at).squeeze(1)
        alike = -log_P.mean(1) - math.log(self.kinds)
        picked = torch.zeros_like(apart, dtype=torch.bool)
        loss = torch.zeros((), dtype=G.dtype, device=G.device)
        for distance, most in ((apart, self.own.specific), (alike, self.own.shared)):
            nearest, index = distance.topk(most, largest=False)
            picked = picked.scatter(1, index, True)
            loss = loss + nearest.mean()
        return picked, loss


class Model(MultiModel):
    """AESM2; each objective has a tower."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.aesm2, context.generator
        dim = context.settings.embedding_dim
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.weight = own.selection_loss

        def embeddings(kinds: int) -> nn.Parameter:
            return nn.Parameter(EMBEDDING_STD * torch.randn(kinds, dim, generator=generator))

        self.scenarios, self.tasks = embeddings(domains), embeddings(tasks)
        below = (self.width, *own.scenario_hidden)
        self.scenario_layers = nn.ModuleList(
            Selection(domains, dim, widths, own, generator) for widths in pairwise(below)
        )
        above = (below[-1], *own.task_hidden)
        self.task_layers = nn.ModuleList(
            Selection(tasks, 2 * dim, widths, own, generator) for widths in pairwise(above)
        )
        self.towers = Towers(domains, tasks, above[-1], above[-1], generator)
        self._loss: Tensor | None = None

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        tasks, losses, stream = len(self.tasks), [], noise_of(self.dropout)
        domain = of_rows(torch.arange(len(counts), device=x.device), counts)
        h, s = x, of_rows(self.scenarios, counts)
        for layer in self.scenario_layers:
            h, loss = layer(h, s, domain, stream)
            losses.append(loss)
        # a row for each task, those of a row one after the other
        h, s = h.repeat_interleave(tasks, 0), s.repeat_interleave(tasks, 0)
        task = torch.arange(tasks, device=x.device).repeat(len(x))
        s = torch.cat([s, self.tasks.repeat(len(x), 1)], 1)
        for layer in self.task_layers:
            h, loss = layer(h, s, task, stream)
            losses.append(loss)
        found = [loss for loss in losses if loss is not None]
        self._loss = torch.stack(found).sum() if self.training and found else None
        logits: Tensor = self.towers(h.view(-1, tasks, h.shape[1]), counts)
        return logits

    def auxiliary_loss(self) -> Tensor | None:
        """What pulls the picked experts towards one kind, or towards all."""
        return None if self._loss is None else self.weight * self._loss
