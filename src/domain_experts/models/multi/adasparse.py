"""AdaSparse (Yang et al. 2022, arXiv 2206.13108): a domain prunes neurons of one network.

    pi(z)   = factor(z W)                                              (domain-aware pruner)
    h^(0)   = [e_d, pi^(0)([e_d, x]) * x]
    h^(l)   = pi^(l)([e_d, g]) * g,  g = layer^(l)(h^(l-1))
    logit_t = v_t' h^(L) + c_t

    factor  = 1[s(v) > eps],      s(v) = sigmoid(alpha v)               (binary)
            = s(v) 1[s(v) > eps], s(v) = beta sigmoid(v)                (scaled)
            = s(v) 1[s(v) > eps], s(v) = beta sigmoid(alpha v)          (fused)

    penalty = mean_l lambda_l |r - r_l|,  lambda_l = lambda |r - r_l|  (binary)

alpha grows with every batch. The binary factor has the gradient of s(v). r_l is the share of a
layer's neurons that a batch prunes; lambda_l is 0 where it lies in [r_min, r_max], takes no
gradient elsewhere, and r is the middle of the two.

After abstract and figure, with e_d in front of the first layer as in Scenario-Wise Rec. That code
multiplies by the sign of s(v) - eps, so that a neuron below the threshold changes its sign instead
of being pruned; here it is pruned, as the paper has it.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.multi.base import EMBEDDING_STD, MultiContext, MultiModel
from domain_experts.models.multi.blocks import Layer, uniform
from domain_experts.models.multi.settings import AdaSparseSettings


class Pruner(nn.Module):
    """A layer's factors, one a neuron."""

    def __init__(
        self, dim: int, width: int, own: AdaSparseSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.own = own
        self.W = uniform(generator, dim + width, dim + width, width)

    def forward(self, e: Tensor, h: Tensor, alpha: Tensor) -> Tensor:
        """Factors (B, width) of h (B, width) for the domains' embeddings e (B, dim)."""
        # alpha on the weights: they are fewer than a batch's values
        W = self.W if self.own.factor == "scaled" else alpha * self.W
        s = torch.sigmoid(torch.cat([e, h], 1) @ W)
        if self.own.factor == "binary":
            # exactly 0 or 1 forward, and the gradient of s backward
            return (s > self.own.threshold).to(s.dtype) + (s - s.detach())
        return functional.threshold(self.own.scale * s, self.own.threshold, 0.0)


class Model(MultiModel):
    """AdaSparse; the tasks share all but their output weights."""

    alpha: Tensor

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.adasparse, context.generator
        dim = context.settings.embedding_dim
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.own = own
        self.domains = nn.Parameter(EMBEDDING_STD * torch.randn(domains, dim, generator=generator))
        widths = (dim + self.width, *own.hidden)
        self.layers = nn.ModuleList(Layer(1, i, o, generator) for i, o in pairwise(widths))
        pruned = (self.width, *own.hidden)
        self.pruners = nn.ModuleList(Pruner(dim, width, own, generator) for width in pruned)
        self.v = uniform(generator, own.hidden[-1], own.hidden[-1], tasks)
        self.c = uniform(generator, own.hidden[-1], tasks)
        self.register_buffer("alpha", torch.tensor(own.alpha))
        self._penalty: Tensor | None = None

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        if self.training:
            self.alpha += self.own.alpha_growth
        # a batch's graph keeps its own alpha
        alpha = self.alpha.clone()
        domain = torch.repeat_interleave(torch.tensor(counts, device=x.device))
        e = functional.embedding(domain, self.domains)
        factors = [self.pruners[0](e, x, alpha)]
        h = torch.cat([e, factors[0] * x], 1)
        for layer, pruner in zip(self.layers, self.pruners[1:], strict=True):
            h = layer(h).squeeze(1)
            factors.append(pruner(e, h, alpha))
            h = factors[-1] * h
        if self.training and self.own.factor == "binary":
            self._penalty = self._sparsity_penalty(factors)
        return torch.addmm(self.c, h, self.v)

    def auxiliary_loss(self) -> Tensor | None:
        penalty, self._penalty = self._penalty, None
        return penalty

    def _sparsity_penalty(self, factors: list[Tensor]) -> Tensor:
        low, high = self.own.sparsity
        pruned = 1 - torch.stack([pi.mean() for pi in factors])
        distance = (pruned - (low + high) / 2).abs()
        outside = (pruned < low) | (pruned > high)
        weight = self.own.penalty * distance.detach() * outside
        return (weight * distance).mean()
