"""STAR (Sheng et al. 2021), as M3oE compares it: M3oE's bottom layer under one layer for all.

    h           = layer(f_DR(x)) + layer(x),  f_DR(x) = x (W_d * W) + b_d + b
    logit_{d,t} = tower_{d,t}(layer(h))

One layer has weights of each domain; there is no partitioned norm and no auxiliary network, which
the STAR of `models.star` has.
"""

from torch import Tensor

from domain_experts.models.multi.base import MultiModel, MultiPlan
from domain_experts.models.multi.blocks import Layer, Towers, bottom_widths
from domain_experts.models.star import StarLinear


class Model(MultiModel):
    """STAR of one star-like layer."""

    def __init__(self, plan: MultiPlan) -> None:
        super().__init__(plan)
        bottom, width, last = bottom_widths(plan.settings.hidden)
        domains, tasks, generator = len(plan.schema.domains), len(plan.schema.tasks), plan.generator
        self.representation = StarLinear(domains, self.width, bottom, generator)
        self.conversion = Layer(1, bottom, width, generator)
        self.adaptation = Layer(1, self.width, width, generator)
        self.layer = Layer(1, width, last, generator)
        self.towers = Towers(domains, tasks, last, last, generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = self.conversion(self.representation(x, counts)) + self.adaptation(x)
        h = self.layer(h.squeeze(1)).expand(-1, len(self.schema.tasks), -1)
        logits: Tensor = self.towers(h, counts)
        return logits
