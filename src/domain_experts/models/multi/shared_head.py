"""What the plainest answers to several domains share: one network, and one logit a task."""

import torch
from torch import Tensor

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, uniform


class SharedHead(MultiModel):
    """logit_t = v_t' layers(x) + c_t; a subclass says what it knows of a row's domain.

    Args:
        context: of the model.
        extra: width of what stands beside x.
    """

    def __init__(self, context: MultiContext, extra: int = 0) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        tasks = len(context.schema.tasks)
        self.bottom = Experts(1, (self.width + extra, *hidden), generator)
        self.v = uniform(generator, hidden[-1], hidden[-1], tasks)
        self.c = uniform(generator, hidden[-1], tasks)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B, T) of x (B, I + extra)."""
        return torch.addmm(self.c, self.bottom(x).squeeze(1), self.v)
