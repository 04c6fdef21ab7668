"""HiNet (Zhou et al. 2023, arXiv 2303.06095): first what a scenario tells, then what a task does.

    SEI(x) = sum_k softmax_k(x W + b) Q_k(x)                      (sub-experts, integrated)
    G      = SEI_0(x),  S_m = SEI_m(x)                            (shared, scenario m's)
    A_d    = sum_{m != d} softmax_{m != d}(emb_d W + b)_m S_m     (scenario-aware attention)
    C_d    = [G, S_d, A_d]                                        (scenario extraction layer)
    H_t    = CGC: softmax(C_d W_t + b_t) over the experts of task t and the shared ones, on C_d
    logit  = tower_t(H_t)                                         (task extraction layer)

With one domain there is no A_d.
"""

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import EMBEDDING_STD, MultiContext, MultiModel
from domain_experts.models.multi.blocks import Towers, uniform
from domain_experts.models.multi.units import UnitExperts, UnitGates


class Model(MultiModel):
    """HiNet; what belongs to a task serves all domains."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.hinet, context.generator
        dim, width = context.settings.embedding_dim, context.settings.hidden[-1]
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        widths = (self.width, own.sub_expert_hidden, width)
        self.sub_experts = UnitExperts(domains + 1, own.sub_experts, widths, generator)
        self.integration = UnitGates(domains + 1, self.width, own.sub_experts, generator)
        self.attention = OtherScenarios(domains, dim, generator) if domains > 1 else None
        joined = (3 if domains > 1 else 2) * width
        self.task_experts = UnitExperts(tasks, own.task_experts, (joined, width), generator)
        self.shared_experts = UnitExperts(1, own.shared_experts, (joined, width), generator)
        gated = own.task_experts + own.shared_experts
        self.gates = UnitGates(tasks, joined, gated, generator)
        self.towers = Towers(1, tasks, width, width, generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        C = self.by_scenario(x, counts)
        own = self.task_experts(C)
        experts = torch.cat([own, self.shared_experts(C).expand(-1, own.shape[1], -1, -1)], 2)
        logits: Tensor = self.towers(mixed(self.gates(C), experts), [len(x)])
        return logits

    def by_scenario(self, x: Tensor, counts: list[int]) -> Tensor:
        """C (B, joined) of x (B, I)."""
        domain = torch.repeat_interleave(torch.tensor(counts, device=x.device))
        experts = mixed(self.integration(x), self.sub_experts(x))
        G, S = experts[:, 0], experts[:, 1:]
        parts = [G, S[torch.arange(len(x), device=x.device), domain]]
        if self.attention is not None:
            weights = self.attention().index_select(0, domain)
            parts.append(torch.bmm(weights.unsqueeze(1), S).squeeze(1))
        return torch.cat(parts, 1)


class OtherScenarios(nn.Module):
    """Weights of the other scenarios' experts: softmax_{m != d}(emb_d W + b)_m."""

    def __init__(self, domains: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.embedding = nn.Parameter(
            EMBEDDING_STD * torch.randn(domains, dim, generator=generator)
        )
        self.W = uniform(generator, dim, dim, domains)
        self.b = uniform(generator, dim, domains)

    def forward(self) -> Tensor:
        """Weights (D, D), a scenario's in a row; 0 for itself."""
        logits = torch.addmm(self.b, self.embedding, self.W)
        itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        return logits.masked_fill(itself, -torch.inf).softmax(1)


def mixed(weights: Tensor, experts: Tensor) -> Tensor:
    """Sums (B, U, h) of experts (B, U, n, h) with weights (B, U, n)."""
    return (weights.unsqueeze(2) @ experts).squeeze(2)
