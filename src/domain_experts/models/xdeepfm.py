"""xDeepFM (Lian et al. 2018): logit = linear(x) + w' tower([e_1, ..., e_F]) + u' CIN(e)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from domain_experts.models.ctr import CTRContext, CTRModel, Deep, LinearPart
from domain_experts.models.functions import applied, of_one_type
from domain_experts.models.init import glorot

# DeepCTR's default
MAPS = (128, 128)
PRODUCTS = 2**19
"""Products of pairs that are made at a time; they then fit the cache."""


class Compressed(torch.autograd.Function):
    """ReLU(W' (x_0 o x) + b), x_0 o x being all products of a row of x_0 with one of x.

    x_0 (F, n), x (H, n), W (F H, M) and b (M, 1) to (M, n). The products, which are far larger than
    all else, are made again for the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x_0: Tensor, x: Tensor, W: Tensor, b: Tensor) -> Tensor:
        products = (x_0.unsqueeze(1) * x).flatten(0, 1)
        maps = torch.addmm(b, W.T, products).relu_()
        ctx.save_for_backward(x_0, x, W, maps)
        return maps

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        x_0, x, W, maps = ctx.saved_tensors
        grad = torch.ops.aten.threshold_backward(gradient, maps, 0)
        products = x_0.unsqueeze(1) * x
        grad_W = products.flatten(0, 1) @ grad.T
        grad_products = (W @ grad).view_as(products)
        grad_x = grad_products[0] * x_0[0]
        for i in range(1, len(x_0)):
            grad_x.addcmul_(grad_products[i], x_0[i])
        grad_x_0 = grad_products.mul_(x).sum(1)
        return grad_x_0, grad_x, grad_W, grad.sum(1, keepdim=True)


class CIN(nn.Module):
    """Compressed interaction network (equation 6), with bias, ReLU and split halves as in DeepCTR.

    X^k_h = ReLU(sum_{i,j} W^k_{ij,h} X^0_i * X^{k-1}_j + b^k_h). Of every layer but the last, the
    first half of the feature maps goes on to the next layer and the second half to the output; each
    is summed over the embedding.

    Args:
        fields: number of fields F.
        maps: feature maps of each layer, even but for the last.
        generator: random stream of the init.
    """

    def __init__(self, fields: int, maps: tuple[int, ...], generator: torch.Generator) -> None:
        super().__init__()
        ins = [fields, *(m // 2 for m in maps[:-1])]
        init = [
            glorot("glorot_uniform", fields * i, m, generator)
            for i, m in zip(ins, maps, strict=True)
        ]
        self.W = nn.ParameterList(nn.Parameter(w) for w in init)
        self.b = nn.ParameterList(nn.Parameter(torch.zeros(m)) for m in maps)
        self.width = sum(ins[1:]) + maps[-1]
        self.pairs = fields * max(ins)

    def forward(self, e: Tensor) -> Tensor:
        """Map e (B, F, d) to (B, width)."""
        rows = max(PRODUCTS // (self.pairs * e.shape[2]), 1)
        return torch.cat([self._pooled(part) for part in torch.split(e, rows)])

    def _pooled(self, e: Tensor) -> Tensor:
        """The same for few rows, each feature map being (B d,)."""
        x_0 = e.transpose(0, 1).flatten(1)
        x = x_0
        pooled: list[Tensor] = []
        for W, b in zip(self.W, self.b, strict=True):
            maps = applied(Compressed, *of_one_type(x_0, x, W, b.unsqueeze(1)))
            last = len(pooled) == len(self.W) - 1
            x, direct = (maps, maps) if last else maps.chunk(2)
            pooled.append(direct.view(len(direct), len(e), -1).sum(2))
        return torch.cat(pooled).T


class Model(CTRModel):
    """Linear part, tower and CIN; each task has output weights of its own for the CIN."""

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        generator = context.generator
        self.linear = LinearPart(context)
        self.cin = CIN(len(context.schema.fields), MAPS, generator)
        self.cin_head = nn.Parameter(
            glorot("glorot_normal", self.cin.width, len(context.schema.tasks), generator)
        )

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        e = self.embedding(fields)
        explicit: Tensor = self.cin(e) @ self.cin_head
        wide: Tensor = self.linear(fields, dense)
        return wide + explicit + deep(self.concatenated(e, dense)) @ self.head
