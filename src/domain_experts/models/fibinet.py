"""FiBiNET (Huang et al. 2019): logit = linear(x) + w' tower([bilinear(e), bilinear'(SENET(e))])."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from domain_experts.models.ctr import CTRContext, CTRModel, Deep, LinearPart, beside
from domain_experts.models.functions import applied, of_one_type
from domain_experts.models.init import glorot

# the paper's reduction ratio, and DeepCTR's default
REDUCTION = 3


class SENET(nn.Module):
    """Reweighted embeddings a_i e_i, a = ReLU(ReLU(z W_1) W_2), z_i = mean of e_i."""

    def __init__(self, fields: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = max(fields // REDUCTION, 1)
        self.W_1 = nn.Parameter(glorot("glorot_normal", fields, hidden, generator))
        self.W_2 = nn.Parameter(glorot("glorot_normal", hidden, fields, generator))

    def forward(self, e: Tensor) -> Tensor:
        """Map e (F, d, B) to (F, d, B)."""
        a = torch.relu(self.W_2.T @ torch.relu(self.W_1.T @ e.mean(1)))
        return e * a.unsqueeze(1)


class PairProducts(torch.autograd.Function):
    """(W_ij e_i) * e_j of all pairs i < j of S sets: e (S, F, d, B), W (S, P d, d) to (S, P d, B).

    W_ij e_i is made again for the gradient: to read it back takes longer.
    """

    @staticmethod
    def forward(ctx: Any, e: Tensor, W: Tensor) -> Tensor:
        ctx.save_for_backward(e, W)
        p = e.new_empty(*W.shape[:2], e.shape[3])
        for i, own in pairs_of_fields(e):
            torch.bmm(W[:, own], e[:, i], out=p[:, own])
            p[:, own].mul_(e[:, i + 1 :].flatten(1, 2))
        return p

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        e, W = ctx.saved_tensors
        grad_e, grad_W = torch.zeros_like(e), torch.empty_like(W)
        for i, own in pairs_of_fields(e):
            transformed = torch.bmm(W[:, own], e[:, i])
            grad_e[:, i + 1 :].flatten(1, 2).addcmul_(gradient[:, own], transformed)
            grad = torch.mul(gradient[:, own], e[:, i + 1 :].flatten(1, 2), out=transformed)
            torch.bmm(grad, e[:, i].transpose(1, 2), out=grad_W[:, own])
            grad_e[:, i].baddbmm_(W[:, own].transpose(1, 2), grad)
        return grad_e, grad_W


def pairs_of_fields(e: Tensor) -> Iterator[tuple[int, slice]]:
    """Every field i of e (S, F, d, B) but the last, and the rows of its pairs among P d."""
    fields, dim = e.shape[1:3]
    end = 0
    for i in range(fields - 1):
        start, end = end, end + (fields - 1 - i) * dim
        yield i, slice(start, end)


class Bilinear(nn.Module):
    """p_ij = (e_i W_ij) * e_j of all pairs i < j of S sets, each with a matrix of its own."""

    def __init__(self, sets: int, fields: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(sets, fields * (fields - 1) // 2, dim, dim))
        for matrix in self.W.data.flatten(0, 1):
            matrix.copy_(glorot("glorot_normal", dim, dim, generator))

    def forward(self, e: Tensor) -> Tensor:
        """Map e (S, F, d, B) to the pairs (S, P d, B)."""
        W = self.W.transpose(2, 3).flatten(1, 2)
        return applied(PairProducts, *of_one_type(e.contiguous(), W))


class Model(CTRModel):
    """The tower on bilinear interactions of raw and of reweighted embeddings, and dense features.

    The two bilinear layers do not share their matrices, as in DeepCTR.
    """

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        fields, dim = len(context.schema.fields), context.settings.embedding_dim
        self.linear = LinearPart(context)
        self.senet = SENET(fields, context.generator)
        self.bilinear = Bilinear(2, fields, dim, context.generator)

    def tower_input(self) -> int:
        fields = len(self.schema.fields)
        return fields * (fields - 1) * self.settings.embedding_dim + len(self.schema.dense)

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        e = self.embedding(fields).permute(1, 2, 0).contiguous()
        p = self.bilinear(torch.stack([self.senet(e), e])).flatten(0, 1).T
        wide: Tensor = self.linear(fields, dense)
        return wide + deep(beside(p, dense)) @ self.head
