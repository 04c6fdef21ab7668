"""MMoE (Ma et al. 2018): experts that all objectives share, and one gate an objective.

    logit_{d,t} = tower_{d,t}(sum_n g_{d,t,n} E_n(x)),  g_{d,t} = softmax(x W_{d,t} + b_{d,t})

The gates see the embeddings and pass their gradient on, unlike M3oE's.
"""

import torch
from torch import Tensor

from domain_experts.models.multi.base import MultiModel, MultiPlan
from domain_experts.models.multi.blocks import Experts, Gates, Towers


class Model(MultiModel):
    """MMoE."""

    def __init__(self, plan: MultiPlan) -> None:
        super().__init__(plan)
        hidden, N, generator = plan.settings.hidden, plan.settings.mmoe.experts, plan.generator
        domains, tasks = len(plan.schema.domains), len(plan.schema.tasks)
        self.shared = Experts(N, (self.width, *hidden), generator)
        self.gates = Gates(domains, tasks, self.width, N, generator)
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = torch.bmm(self.gates(x, counts), self.shared(x))
        logits: Tensor = self.towers(h, counts)
        return logits
