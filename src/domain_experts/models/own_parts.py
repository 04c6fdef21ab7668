"""A model of which each domain has a part of its own in every weight (MAMDR)."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from domain_experts.models.adapter import Routing
from domain_experts.models.ctr import ClickModel


class OwnParts(ClickModel):
    """Weights theta_S + theta_d for the rows of domain d (Luo et al. 2023, algorithm 3).

    An unknown domain (-1) has theta_S alone. In training it is the shared model as that stands: who
    trains it puts the weights there.

    Args:
        shared: the model that theta_S are the weights of.
        domains: number of domains D; each theta_d starts at 0.
    """

    def __init__(self, shared: ClickModel, domains: int) -> None:
        super().__init__(shared.schema, 0.0)
        self.shared = shared
        self.dropout = shared.dropout
        self.own = nn.ParameterList(
            nn.Parameter(torch.zeros(domains, *p.shape)) for p in shared.parameters()
        )

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        if self.training:
            logits: Tensor = self.shared(fields, dense, domain, routing)
            return logits
        logits = dense.new_empty(len(domain), len(self.schema.tasks))
        for d in torch.unique(domain).tolist():
            rows = torch.nonzero(domain == d).squeeze(1)
            inputs = (fields[rows], dense[rows], domain[rows], routing)
            logits[rows] = functional_call(self.shared, self.weights(d), inputs).to(logits.dtype)
        return logits

    def weights(self, domain: int) -> dict[str, Tensor]:
        """The shared model's weights for a domain, by name."""
        named = zip(self.shared.named_parameters(), self.own, strict=True)
        return {n: p if domain < 0 else p + parts[domain] for (n, p), parts in named}

    def dropped(self) -> list[nn.Parameter]:
        return self.shared.dropped()

    def penalised(self) -> list[nn.Parameter]:
        return self.shared.penalised()
