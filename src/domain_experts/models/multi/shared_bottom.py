"""Shared-Bottom (Caruana 1997): layers that all objectives share, and one tower an objective.

    logit_{d,t} = tower_{d,t}(layers(x))

With one domain and one task it is M3oE's baseline MLP.
"""

from torch import Tensor

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Towers


class Model(MultiModel):
    """Shared-Bottom, and MLP."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.bottom = Experts(1, (self.width, *hidden), generator)
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = self.bottom(x).expand(-1, len(self.schema.tasks), -1)
        logits: Tensor = self.towers(h, counts)
        return logits
