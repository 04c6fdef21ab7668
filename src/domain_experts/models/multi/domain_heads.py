"""Domain heads (Caruana 1997): one network for all objectives, and a linear head of each.

    logit_{d,t} = v_{d,t}' layers(x) + c_{d,t}

Shared-Bottom has a hidden layer in its towers, these have none.
"""

import torch
from torch import Tensor

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, by_domain, uniform


class Model(MultiModel):
    """One network and a linear head of each objective."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.bottom = Experts(1, (self.width, *hidden), generator)
        self.v = uniform(generator, hidden[-1], domains, hidden[-1], tasks)
        self.c = uniform(generator, hidden[-1], domains, tasks)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        v, c = self.v.unbind(), self.c.unbind()
        h = self.bottom(x).squeeze(1)
        return torch.cat([torch.addmm(c[d], own, v[d]) for d, own in by_domain(h, counts)])
