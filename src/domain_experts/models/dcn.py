"""DCN (Wang et al. 2017): logit = linear(x) + w' [cross(x_0), tower(x_0)]."""

import torch
from torch import Tensor, nn

from domain_experts.models.ctr import CTRModel, Deep, LinearPart, Plan
from domain_experts.models.init import glorot

# DeepCTR's default
LAYERS = 2


class CrossNet(nn.Module):
    """Cross layers with vector weights, x_{l+1} = x_0 (x_l' w_l) + b_l + x_l (equation 3)."""

    def __init__(self, width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        init = [glorot("glorot_normal", width, 1, generator) for _ in range(layers)]
        self.w = nn.ParameterList(nn.Parameter(w) for w in init)
        self.b = nn.ParameterList(nn.Parameter(torch.zeros(width)) for _ in init)

    def forward(self, x0: Tensor) -> Tensor:
        """Map x_0 (B, d_0) to (B, d_0)."""
        x = x0
        for w, b in zip(self.w, self.b, strict=True):
            x = x0 * (x @ w) + b + x
        return x


class Model(CTRModel):
    """Cross network and tower side by side under one head, and the linear part."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.linear = LinearPart(plan)
        self.cross = CrossNet(self.tower_input(), LAYERS, plan.generator)

    def head_input(self) -> int:
        return self.tower_input() + super().head_input()

    def penalised(self) -> list[nn.Parameter]:
        """The cross weights too."""
        return [*super().penalised(), *self.cross.w]

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        x0 = self.concatenated(self.embedding(fields), dense)
        wide: Tensor = self.linear(fields, dense)
        return wide + torch.cat([self.cross(x0), deep(x0)], 1) @ self.head
