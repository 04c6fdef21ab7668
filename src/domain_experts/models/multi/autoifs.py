"""AutoIFS (WSDM 2026, arXiv 2512.13396): flows of information that a gate takes out again.

    h      = MLP(x)
    u_S    = h W + b,  u_d = h A_d B_d + c_d,  u = ReLU(u_S + u_d)      (domain layer)
    f_S(u) = u w + e,  f_t(u) = u A_t B_t + c_t                         (task layer)
    logit  = f_S(u) + f_t(u) - sum_k g_{t,k} flow_k
    flows  = f_S(u_S), f_t(u_d), f_t(u_S), f_S(u_d)
    g_t    = sigmoid(tau MLP'(x)_t) in the search; 1 or 0, for positive and other values, after it

The gates' input has no gradient; after the search it is made of the embeddings as they were then.
The order of the flows and the missing ReLU of u_S and u_d alone are those of the authors' code.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.adapter import Routing
from domain_experts.models.init import glorot
from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import by_domain, uniform

FLOWS = 4
# the authors' code
INIT = "glorot_normal"


class Perceptron(nn.Module):
    """Layers ReLU(h W + b)."""

    def __init__(self, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__()
        self.W = nn.ParameterList(uniform(generator, i, i, o) for i, o in pairwise(widths))
        self.b = nn.ParameterList(uniform(generator, i, o) for i, o in pairwise(widths))

    def forward(self, h: Tensor) -> Tensor:
        """Map h (B, widths[0]) to (B, widths[-1])."""
        for W, b in zip(self.W, self.b, strict=True):
            h = torch.relu(torch.addmm(b, h, W))
        return h


class Specific(nn.Module):
    """y_n = h A_n B_n + c_n, n low-rank layers; zero at the start."""

    def __init__(
        self, count: int, d_in: int, rank: int, d_out: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        kernels = [glorot(INIT, d_in, rank, generator) for _ in range(count)]
        self.A = nn.Parameter(torch.stack(kernels))
        self.B = nn.Parameter(torch.zeros(count, rank, d_out))
        self.c = nn.Parameter(torch.zeros(count, d_out))


class Model(MultiModel):
    """AutoIFS.

    `temperature` is tau. `hard` says that the search is over: the gates are 0 or 1, and their input
    is made of `gate_table`.
    """

    gate_table: Tensor

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.autoifs, context.generator
        domains, self.tasks = len(context.schema.domains), len(context.schema.tasks)
        bottom, width = own.hidden[-1], own.domain_width
        self.mlp = Perceptron((self.width, *own.hidden), generator)
        self.W = nn.Parameter(glorot(INIT, bottom, width, generator))
        self.b = nn.Parameter(torch.zeros(width))
        self.by_domain = Specific(domains, bottom, own.rank, width, generator)
        self.w = nn.Parameter(glorot(INIT, width, 1, generator))
        self.e = nn.Parameter(torch.zeros(1))
        self.by_task = Specific(self.tasks, width, own.rank, 1, generator)
        self.gate_mlp = Perceptron((self.width, *own.hidden), generator)
        self.gate_W = uniform(generator, bottom, bottom, FLOWS * self.tasks)
        self.gate_b = uniform(generator, bottom, FLOWS * self.tasks)
        self.register_buffer("gate_table", torch.zeros_like(self.embedding.weight))
        self.temperature = 1.0
        self.hard = False

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        flows = super().forward(fields, dense, domain).view(-1, 1 + FLOWS, self.tasks)
        return flows[:, 0] - (self.gates(fields, dense) * flows[:, 1:]).sum(1)

    def gates(self, fields: Tensor, dense: Tensor) -> Tensor:
        """The gates g (B, 4, T)."""
        table = self.gate_table if self.hard else self.embedding.weight.detach()
        ids = functional.embedding(fields + self.embedding.offsets, table)
        e = self.embedding.by_field(ids, fields)
        hidden = self.gate_mlp(torch.cat([e.flatten(1), dense], 1))
        g = torch.addmm(self.gate_b, hidden, self.gate_W).view(-1, FLOWS, self.tasks)
        return (g > 0).to(g.dtype) if self.hard else torch.sigmoid(self.temperature * g)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        """The logit without gates, then the four flows: (B, 5 T)."""
        h = self.mlp(x)
        of_all, of_own = torch.addmm(self.b, h, self.W), self.of_domain(h, counts)
        u = torch.stack([torch.relu(of_all + of_own), of_all, of_own], 1)
        shared = u @ self.w + self.e
        specific = u @ (self.by_task.A @ self.by_task.B).squeeze(2).T + self.by_task.c.T
        flows = [
            shared[:, 0] + specific[:, 0],
            shared[:, 1].expand(-1, self.tasks),
            specific[:, 2],
            specific[:, 1],
            shared[:, 2].expand(-1, self.tasks),
        ]
        return torch.cat(flows, 1)

    def of_domain(self, h: Tensor, counts: list[int]) -> Tensor:
        """u_d (B, width) of h (B, bottom)."""
        A, B, c = (p.unbind() for p in (self.by_domain.A, self.by_domain.B, self.by_domain.c))
        return torch.cat([torch.addmm(c[d], rows @ A[d], B[d]) for d, rows in by_domain(h, counts)])

    def gate_parameters(self) -> set[str]:
        """Names of the parameters that make the gates."""
        return {name for name, _ in self.named_parameters() if name.startswith("gate_")}
