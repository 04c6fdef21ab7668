"""Small heads (Wang et al. 2022, arXiv 2008.05808): a plain second head beside each tower's.

    logit_{d,t} = tower_{d,t}(h),  h = layers(x)
    L          += gamma sum_t mean cross entropy of y_t and a_{d,t},  a_{d,t} = h v_{d,t} + c_{d,t}

These are under-parametrised self-auxiliaries: a head that can do little by itself makes the shared
layers do it, which helps the tower. It sees the same labels, and there is none in evaluation. The
paper leaves its form open, so long as it is simpler than the tower; here it is linear. Its equation
was to be had as others report it.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.blocks import by_domain, uniform
from domain_experts.models.multi.shared_bottom import Model as SharedBottom


class Model(SharedBottom):
    """Shared-Bottom with small heads."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        generator, width = context.generator, context.settings.hidden[-1]
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.gamma = context.settings.small_heads.weight
        self.v = uniform(generator, width, domains, width, tasks)
        self.c = uniform(generator, width, domains, tasks)
        self._small: Tensor | None = None

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = self.bottom(x)
        if self.training:
            own = [torch.addmm(self.c[d], r, self.v[d]) for d, r in by_domain(h.squeeze(1), counts)]
            self._small = torch.cat(own)
        logits: Tensor = self.towers(h.expand(-1, len(self.schema.tasks), -1), counts)
        return logits

    def grouped_losses(self, labels: Tensor) -> Tensor | None:
        small, self._small = self._small, None
        if small is None:
            return None
        return self.gamma * binary_cross_entropy_with_logits(small, labels, reduction="none").sum(1)
