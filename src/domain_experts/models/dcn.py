"""DCN (Wang et al. 2017): logit = linear(x) + w' [cross(x_0), tower(x_0)]."""

import torch
from torch import Tensor, nn

from domain_experts.models.ctr import CTRContext, CTRModel, Deep, LinearPart
from domain_experts.models.init import glorot

# DeepCTR's default
LAYERS = 2


class CrossNet(nn.Module):
    """Cross layers with vector weights, x_{l+1} = x_0 (x_l' w_l) + b_l + x_l (equation 3).

    Hence x_l = a_l x_0 + c_l, where a_{l+1} = a_l + x_l' w_l is a number and c_{l+1} = c_l + b_l is
    the same for all rows; of x_0 itself only products with vectors are needed.
    """

    def __init__(self, width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        init = [glorot("glorot_normal", width, 1, generator) for _ in range(layers)]
        self.w = nn.ParameterList(nn.Parameter(w) for w in init)
        self.b = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in init)

    def forward(self, x0: Tensor, head: Tensor) -> Tensor:
        """Map x_0 (B, d_0) to x_L head (B, T), for a head (d_0, T)."""
        vectors = torch.cat([*self.w, head], 1)
        products = x0 @ vectors
        a, c = x0.new_ones(len(x0), 1), x0.new_zeros(1, x0.shape[1])
        for layer, b in enumerate(self.b):
            own = slice(layer, layer + 1)
            a = a + a * products[:, own] + c @ vectors[:, own]
            c = c + b
        outputs = slice(len(self.b), None)
        return a * products[:, outputs] + c @ vectors[:, outputs]


class Model(CTRModel):
    """Cross network and tower side by side under one head, and the linear part."""

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        self.linear = LinearPart(context)
        self.cross = CrossNet(self.tower_input(), LAYERS, context.generator)

    def head_input(self) -> int:
        return self.tower_input() + super().head_input()

    def penalised(self) -> list[nn.Parameter]:
        """The cross weights too."""
        return [*super().penalised(), *self.cross.w]

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        x0 = self.concatenated(self.embedding(fields), dense)
        wide: Tensor = self.linear(fields, dense)
        cross_head, tower_head = torch.split(self.head, [x0.shape[1], self.settings.hidden[-1]])
        explicit: Tensor = self.cross(x0, cross_head)
        return wide + explicit + deep(x0) @ tower_head
