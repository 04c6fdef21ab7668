"""MMoE (Ma et al. 2018): experts that all objectives share, and one gate an objective.

    logit_{d,t} = tower_{d,t}(sum_n g_{d,t,n} E_n(x)),  g_{d,t} = softmax(x W_{d,t} + b_{d,t})

The gates see the embeddings and pass their gradient on, unlike M3oE's.
"""

import torch
from torch import Tensor

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Gates, Towers


class Model(MultiModel):
    """MMoE."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        settings, generator = context.settings, context.generator
        hidden, N = settings.hidden, settings.mmoe.experts
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.shared = Experts(N, (self.width, *hidden), generator)
        self.gates = Gates(domains, tasks, self.width, N, generator)
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = torch.bmm(self.gates(x, counts), self.shared(x))
        logits: Tensor = self.towers(h, counts)
        return logits
