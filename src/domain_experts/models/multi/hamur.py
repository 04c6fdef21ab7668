"""HAMUR (Li et al. 2023, arXiv 2309.06217): adapters of domains whose weights a row generates.

    h^(l) = layer_d^(l)(h^(l-1)),  h^(0) = x                            (domain d's own network)
    H     = hyper(x), an r x r matrix                                  (one hyper-network)
    A(h)  = norm_d(sigmoid(h U H V + b) U' H V' + b')                  (adapter cell)
    h^(l) <- h^(l) + A^(l)(h^(l))                                      (for the last two layers)
    logit = v_{d,t}' h^(L) + c_{d,t}

norm_d has the moments of domain d's rows, and scales and shifts as for all domains. Equations are
those of the authors' released code, with these departures: there norm takes the moments of all
rows of a batch, though abstract and figure call it the domain's (`moments` chooses), in evaluation
too, where here the moving ones stand; U and V start at 1, which leaves all units of an adapter
alike, and here at random.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Layer, by_domain, uniform

ADAPTERS = 2


class DomainNorm(nn.Module):
    """gamma (x - mu_d) / sqrt(var_d + eps) + beta; with one domain's moments, those of all rows.

    In training the moments are those of the batch's rows of domain d, and its moving moments follow
    them; one row alone has no variance, and takes the moving ones, as in evaluation.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, domains: int, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(domains, width))
        self.register_buffer("var", torch.ones(domains, width))

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """Normalise x (B, width), sorted by domain."""
        normed = [
            functional.batch_norm(
                own,
                self.mean[d],
                self.var[d],
                self.gamma,
                self.beta,
                training=self.training and len(own) > 1,
            )
            for d, own in by_domain(x, counts if len(self.mean) > 1 else [len(x)])
        ]
        return torch.cat(normed)


class OwnLayers(nn.ModuleList):
    """One layer a domain."""

    def __init__(self, domains: int, d_in: int, d_out: int, generator: torch.Generator) -> None:
        super().__init__(Layer(1, d_in, d_out, generator) for _ in range(domains))

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """Map x (B, d_in), sorted by domain, to (B, d_out)."""
        return torch.cat([self[d](own).squeeze(1) for d, own in by_domain(x, counts)])


class AdapterCell(nn.Module):
    """norm_d(sigmoid(h U H V + b) U' H V' + b') with H made of the row.

    The products of three matrices are never built.
    """

    def __init__(
        self, norm: DomainNorm, width: int, bottleneck: int, rank: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.U_down = uniform(generator, width, width, rank)
        self.V_down = uniform(generator, rank, rank, bottleneck)
        self.b_down = nn.Parameter(torch.zeros(bottleneck))
        self.U_up = uniform(generator, bottleneck, bottleneck, rank)
        self.V_up = uniform(generator, rank, rank, width)
        self.b_up = nn.Parameter(torch.zeros(width))
        self.norm = norm

    def forward(self, h: Tensor, H: Tensor, counts: list[int]) -> Tensor:
        """Map h (B, width) to (B, width) with H (B, r, r)."""
        down = torch.bmm((h @ self.U_down).unsqueeze(1), H).squeeze(1)
        inner = torch.sigmoid(torch.addmm(self.b_down, down, self.V_down))
        up = torch.bmm((inner @ self.U_up).unsqueeze(1), H).squeeze(1)
        y: Tensor = self.norm(torch.addmm(self.b_up, up, self.V_up), counts)
        return y


class Model(MultiModel):
    """HAMUR over a network a domain."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.hamur, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.layers = nn.ModuleList(
            OwnLayers(domains, i, o, generator) for i, o in pairwise((self.width, *own.hidden))
        )
        self.rank = own.rank
        self.hyper = Experts(1, (self.width, own.hyper_hidden, own.rank**2), generator)
        normed = domains if own.moments == "domain" else 1
        self.cells = nn.ModuleList(
            AdapterCell(DomainNorm(normed, width), width, own.bottleneck, own.rank, generator)
            for width in own.hidden[-ADAPTERS:]
        )
        last = own.hidden[-1]
        self.v = nn.ParameterList(uniform(generator, last, last, tasks) for _ in range(domains))
        self.c = nn.ParameterList(uniform(generator, last, tasks) for _ in range(domains))

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        H = self.hyper(x).view(-1, self.rank, self.rank)
        plain = len(self.layers) - len(self.cells)
        h = x
        for number, layer in enumerate(self.layers):
            h = layer(h, counts)
            if number >= plain:
                h = h + self.cells[number - plain](h, H, counts)
        return torch.cat(
            [torch.addmm(self.c[d], own, self.v[d]) for d, own in by_domain(h, counts)]
        )
