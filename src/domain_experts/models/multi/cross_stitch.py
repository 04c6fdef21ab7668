"""Cross-Stitch (Misra et al. 2016, arXiv 1604.03539): networks of the tasks, mixed layer by layer.

    h_t^(l)     = sum_u a^(l)_{t,u} layer_u^(l)(h_u^(l-1)),  h_t^(0) = x     (eq. 1)
    logit_{d,t} = tower_{d,t}(h_t^(L))

At the start a_{t,t} is `own_share`, and the other tasks share the rest. The paper's units are of
convolutional networks, and its a have a larger step size than the weights; here they have the same.
MMLRec has in place of a one matrix over all hidden units of all tasks.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Layer, Towers


class Model(MultiModel):
    """Cross-Stitch; a task's network serves all domains, and each objective has a tower."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        start = stitched(tasks, context.settings.cross_stitch.own_share)
        self.layers = nn.ModuleList(
            Layer(tasks, i, o, generator) for i, o in pairwise((self.width, *hidden))
        )
        self.a = nn.ParameterList(nn.Parameter(start.clone()) for _ in hidden)
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = x
        for layer, a in zip(self.layers, self.a, strict=True):
            h = a @ layer(h)
        logits: Tensor = self.towers(h, counts)
        return logits


def stitched(tasks: int, own: float) -> Tensor:
    """Units (T, T) at the start: a task's own share, and what is left for each other task."""
    if tasks == 1:
        return torch.ones(1, 1)
    itself = torch.eye(tasks)
    return own * itself + (1 - own) / (tasks - 1) * (1 - itself)
