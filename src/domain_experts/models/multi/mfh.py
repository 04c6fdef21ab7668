"""MFH (Liu et al. 2022, arXiv 2110.13365): trees of experts, one for each way to sort objectives.

    tree by task    R_t = S_t(x),    H_{d,t}  = S_{t,d}(R_t)
    tree by domain  R_d = S'_d(x),   H'_{d,t} = S'_{d,t}(R_d)
    switcher        S_u(r) = sum_k softmax_k(r W_u + b_u) [E_u, E_0](r)_k
    logit_{d,t} = tower_{d,t}(H_{d,t} + H'_{d,t})

A switcher has one input and an output for each of its branches u, which have experts E_u of their
own beside those of the switcher, E_0 (CGC). A tree sorts objectives by one facet first, then by the
other. The paper's facets are what users do and groups of users; domains take the place of the
groups. That the trees meet in a sum, and switchers are CGC, is as in public code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Towers, by_domain
from domain_experts.models.multi.hinet import mixed
from domain_experts.models.multi.settings import MFHSettings
from domain_experts.models.multi.units import UnitExperts, UnitGates, level_widths


class Branches(nn.Module):
    """U branches: their own experts, and their gates over these and what a switcher shares."""

    def __init__(
        self, units: int, widths: Sequence[int], own: MFHSettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.experts = UnitExperts(units, own.specific_experts, widths, generator)
        gated = own.specific_experts + own.shared_experts
        self.gates = UnitGates(units, widths[0], gated, generator)

    def forward(self, r: Tensor, shared: Tensor) -> Tensor:
        """Outputs (B, U, h).

        Args:
            r: input (B, d_in), or each branch's own (B, U, d_in).
            shared: outputs (B, U, M, h) of the shared experts, or (B, 1, M, h) of one switcher.
        """
        own: Tensor = self.experts(r)
        common = shared.expand(-1, own.shape[1], -1, -1)
        return mixed(self.gates(r), torch.cat([own, common], 2))


class Model(MultiModel):
    """MFH with the facets domain and task, half of the layers above each switch."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        own = context.settings.mfh
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        lower, upper = level_widths(self.width, hidden, 2)

        def shared(units: int, widths: Sequence[int]) -> UnitExperts:
            return UnitExperts(units, own.shared_experts, widths, generator)

        def branches(units: int, widths: Sequence[int]) -> Branches:
            return Branches(units, widths, own, generator)

        self.shared = nn.ModuleList([shared(1, lower), shared(1, lower)])
        self.by_task = branches(tasks, lower)
        self.shared_of_task = shared(tasks, upper)
        self.by_domain = nn.ModuleList(branches(1, lower) for _ in range(domains))
        self.shared_of_domain = nn.ModuleList(shared(1, upper) for _ in range(domains))
        self.leaves_by_task = nn.ModuleList(branches(tasks, upper) for _ in range(domains))
        self.leaves_by_domain = nn.ModuleList(branches(tasks, upper) for _ in range(domains))
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        H = self.tree_by_task(x, counts) + self.tree_by_domain(x, counts)
        logits: Tensor = self.towers(H, counts)
        return logits

    def tree_by_task(self, x: Tensor, counts: list[int]) -> Tensor:
        """H (B, T, h) of x (B, I)."""
        R = self.by_task(x, self.shared[0](x))
        shared = self.shared_of_task(R).split(counts)
        leaves = self.leaves_by_task
        return torch.cat([leaves[d](own, shared[d]) for d, own in by_domain(R, counts)])

    def tree_by_domain(self, x: Tensor, counts: list[int]) -> Tensor:
        """H' (B, T, h) of x (B, I)."""
        shared = self.shared[1](x).split(counts)
        H = []
        for d, own in by_domain(x, counts):
            R = self.by_domain[d](own, shared[d]).squeeze(1)
            H.append(self.leaves_by_domain[d](R, self.shared_of_domain[d](R)))
        return torch.cat(H)
