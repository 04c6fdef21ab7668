"""APG (Yan et al. 2022, arXiv 2203.16218): a condition generates the core of low-rank weights.

    y       = ReLU(LN(x U S_d V + b_d)),  [S_d, b_d] = z_d A + a            (each layer)
    logit_t = v_t' h^(L) + c_t

U (I x k) and V (k x O) are shared, S_d is k x k; z_d is the embedding of the domain, the paper's
group-wise condition, so that weights are generated once a domain. U S_d V is never multiplied out.

Of the paper's options the conditions by row and mixed, and U and V as products of larger matrices,
are left out. Definition as in FuxiCTR's APG; MMLRec generates a bias of S, not of the layer. The
norm is this package's.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.init import glorot
from domain_experts.models.multi.base import EMBEDDING_STD, MultiContext, MultiModel
from domain_experts.models.multi.blocks import by_domain, uniform

# FuxiCTR's
INIT = "glorot_normal"


class GeneratedLayer(nn.Module):
    """x U S_d V + b_d, with S_d and b_d made of the domain's vector."""

    def __init__(
        self, dim: int, d_in: int, d_out: int, rank: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.rank = rank
        # U, V and the core that all domains start with each keep the variance of what they take
        self.U = nn.Parameter(glorot(INIT, d_in, rank, generator))
        self.V = nn.Parameter(glorot(INIT, rank, d_out, generator))
        self.A = uniform(generator, dim * rank, dim, rank**2 + d_out)
        start = glorot(INIT, rank, rank, generator).flatten(), torch.zeros(d_out)
        self.a = nn.Parameter(torch.cat(start))

    def forward(self, x: Tensor, z: Tensor, counts: list[int]) -> Tensor:
        """Map x (B, d_in), sorted by domain, to (B, d_out) with vectors z (D, dim)."""
        made = torch.addmm(self.a, z, self.A)
        cores = made[:, : self.rank**2].view(-1, self.rank, self.rank).unbind()
        inner = torch.cat([own @ cores[d] for d, own in by_domain(x @ self.U, counts)])
        domain = torch.repeat_interleave(torch.tensor(counts, device=x.device))
        return inner @ self.V + functional.embedding(domain, made[:, self.rank**2 :])


class Model(MultiModel):
    """APG; the tasks share all but their output weights."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.apg, context.generator
        dim = context.settings.embedding_dim
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.domains = nn.Parameter(EMBEDDING_STD * torch.randn(domains, dim, generator=generator))
        self.layers = nn.ModuleList(
            GeneratedLayer(dim, i, o, own.rank, generator)
            for i, o in pairwise((self.width, *own.hidden))
        )
        self.norms = nn.ModuleList(map(nn.LayerNorm, own.hidden))
        self.v = uniform(generator, own.hidden[-1], own.hidden[-1], tasks)
        self.c = uniform(generator, own.hidden[-1], tasks)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x, self.domains, counts)))
        return torch.addmm(self.c, x, self.v)
