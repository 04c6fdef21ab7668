"""PPNet (Chang et al. 2023, arXiv 2302.01115): user's and item's gates on towers, half of PEPNet.

    H_t^(l) = gate_t^(l)([e_user, e_item, sg(x)]) * layer_t^(l)(H_t^(l-1)),  H_t^(0) = x
    logit   = v_t' H_t^(L) + c_t,  gate as in PEPNet                    (PPNet)

sg stops the gradient. It knows a row's domain only by a field that tells it. Scenario-Wise Rec has
a tower a domain, and feeds the first layer what the gates see.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from domain_experts.errors import UserError
from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Layer, uniform
from domain_experts.models.multi.pepnet import PRIOR, GateUnit


class Model(MultiModel):
    """PPNet; a domain has nothing of its own.

    Raises:
        UserError: the data set has no field `user` or no field `item`.
    """

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.pepnet, context.generator
        dim, self.tasks = context.settings.embedding_dim, len(context.schema.tasks)
        names = [name for name, _ in context.schema.fields]
        missing = [name for name in PRIOR if name not in names]
        if missing:
            raise UserError(
                f"PPNet's gates need the field '{missing[0]}', and the data set has "
                f"{', '.join(names)}; leave ppnet out under `experiments` in params.yaml"
            )
        self.prior = [slice(j * dim, (j + 1) * dim) for j in map(names.index, PRIOR)]
        self.towers = nn.ModuleList(
            Layer(self.tasks, i, o, generator) for i, o in pairwise((self.width, *own.hidden))
        )
        known = len(PRIOR) * dim + self.width
        self.gates = nn.ModuleList(
            GateUnit(known, own.gate_hidden, self.tasks * o, generator) for o in own.hidden
        )
        self.v = uniform(generator, own.hidden[-1], self.tasks, own.hidden[-1])
        self.c = uniform(generator, own.hidden[-1], self.tasks)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        known = torch.cat([*(x[:, own] for own in self.prior), x.detach()], 1)
        hidden = x
        for layer, gate in zip(self.towers, self.gates, strict=True):
            hidden = gate(known).view(len(x), self.tasks, -1) * layer(hidden)
        return (hidden * self.v).sum(2) + self.c
