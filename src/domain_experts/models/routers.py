"""Routers: from domain ids (B,) to the experts that serve each row."""

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Hard
from domain_experts.models.init import glorot


class OneHot(nn.Module):
    """Expert d for the rows of domain d (MLoRA)."""

    def __init__(self, domains: int) -> None:
        super().__init__()
        self.domains = domains

    def forward(self, domain: Tensor) -> Hard:
        """Domains (B,) to the grouping of the batch by domain."""
        counts = torch.bincount(domain, minlength=self.domains)
        order = torch.argsort(domain, stable=True)
        return Hard(tuple(range(self.domains)), tuple(counts.tolist()), order)


class DomainGate(nn.Module):
    """g = softmax(e_k V + v) with an embedding e_k of the domain id (moe_mlora: gate).

    Its input is the domain id alone, so that it is a table of domains x experts.
    """

    def __init__(self, domains: int, experts: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        # Keras' default for embeddings
        embedding = torch.empty(domains, dim).uniform_(-0.05, 0.05, generator=generator)
        self.embedding = nn.Parameter(embedding)
        self.V = nn.Parameter(glorot("glorot_uniform", dim, experts, generator))
        self.v = nn.Parameter(torch.zeros(experts))

    def table(self) -> Tensor:
        """Weights of every domain, (D, E); rows sum to 1."""
        return torch.softmax(torch.addmm(self.v, self.embedding, self.V), 1)

    def forward(self, domain: Tensor) -> Tensor:
        """Domains (B,) to weights (B, E)."""
        return self.table()[domain]


class UniformGate(nn.Module):
    """Constant g = 1 / E: what the released MoE-MLoRA code in effect computes."""

    def __init__(self, domains: int, experts: int) -> None:
        super().__init__()
        self.domains = domains
        self.experts = experts

    def table(self) -> Tensor:
        """Weights of every domain, (D, E)."""
        return torch.full((self.domains, self.experts), 1 / self.experts)

    def forward(self, domain: Tensor) -> Tensor:
        """Domains (B,) to weights (B, E)."""
        g = torch.tensor(1 / self.experts, dtype=torch.get_default_dtype(), device=domain.device)
        return g.expand(len(domain), self.experts)
