"""MFH (Liu et al. 2022, arXiv 2110.13365): trees of experts, one for each way to sort objectives.

    tree by task    R_t = sum_k g_{t,k}(x) E_k(x),    H_{d,t} = sum_k g_{d,t,k}(R_t) E_{t,k}(R_t)
    tree by domain  R_d = sum_k g_{d,k}(x) E'_k(x),   H'_{d,t} = sum_k g'_{d,t,k}(R_d) E'_{d,k}(R_d)
    logit_{d,t} = tower_{d,t}([H_{d,t}, H'_{d,t}]),   g(R) = softmax(R W + b)

A switcher has one input and an output for each branch; here it is MMoE's experts and gates. The
first of a tree goes by one facet of the objectives, the next by the other. The paper's facets are
what users do and groups of users; domains take the place of the groups. How the trees meet below a
tower is our choice.
"""

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Gates, Towers, by_domain
from domain_experts.models.multi.hinet import mixed
from domain_experts.models.multi.units import UnitExperts, UnitGates, level_widths


class Model(MultiModel):
    """MFH with the facets domain and task, half of the layers above each switch."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        K, domains, tasks = (
            context.settings.mfh.experts,
            len(context.schema.domains),
            len(context.schema.tasks),
        )
        lower, upper = level_widths(self.width, hidden, 2)
        self.root_by_task = UnitExperts(1, K, lower, generator)
        self.task_gates = UnitGates(tasks, self.width, K, generator)
        self.task_experts = UnitExperts(tasks, K, upper, generator)
        self.gates_of_task = nn.ModuleList(
            UnitGates(tasks, upper[0], K, generator) for _ in range(domains)
        )
        self.root_by_domain = Experts(K, lower, generator)
        self.domain_gates = Gates(domains, 1, self.width, K, generator)
        self.domain_experts = nn.ModuleList(
            UnitExperts(1, K, upper, generator) for _ in range(domains)
        )
        self.gates_of_domain = nn.ModuleList(
            UnitGates(tasks, upper[0], K, generator) for _ in range(domains)
        )
        self.towers = Towers(domains, tasks, 2 * hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        both = torch.cat([self.tree_by_task(x, counts), self.tree_by_domain(x, counts)], 2)
        logits: Tensor = self.towers(both, counts)
        return logits

    def tree_by_task(self, x: Tensor, counts: list[int]) -> Tensor:
        """H (B, T, h) of x (B, I)."""
        R = torch.bmm(self.task_gates(x), self.root_by_task(x).squeeze(1))
        gates = [self.gates_of_task[d](own) for d, own in by_domain(R, counts)]
        return mixed(torch.cat(gates), self.task_experts(R))

    def tree_by_domain(self, x: Tensor, counts: list[int]) -> Tensor:
        """H' (B, T, h) of x (B, I)."""
        R = torch.bmm(self.domain_gates(x, counts), self.root_by_domain(x)).squeeze(1)
        return torch.cat(
            [
                torch.bmm(self.gates_of_domain[d](own), self.domain_experts[d](own).squeeze(1))
                for d, own in by_domain(R, counts)
            ]
        )
