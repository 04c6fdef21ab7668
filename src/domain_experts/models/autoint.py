"""AutoInt (Song et al. 2019): logit = linear(x) + w' [attention(e), tower([e_1, ..., e_F])]."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from domain_experts.models.ctr import CTRModel, Deep, LinearPart, Plan

# the released configurations: three layers of four heads, each of width 8
LAYERS = 3
HEADS = 4
HEAD_WIDTH = 8
ROWS = 512
"""Rows that go through the attention at a time; what is between its layers fits the cache."""


class FieldAttention(torch.autograd.Function):
    """ReLU(sum_j a_ij v_j + r_i), a_ij = softmax_j <q_i, k_j>: (4, heads, width, F, B), q k v r.

    Tiny matrix products of each row and head are slow. This is one multiply-add of whole rows of
    numbers for each of their terms, and what it adds up stays in the cache if B is not large.
    """

    @staticmethod
    def forward(ctx: Any, qkvr: Tensor) -> Tensor:
        q, k, v, r = qkvr.unbind()
        a = products(q, k).softmax(2)
        output = weighted(a, v, torch.empty_like(q)).add_(r).relu_()
        ctx.save_for_backward(qkvr, a, output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        qkvr, a, output = ctx.saved_tensors
        q, k, v, _ = qkvr.unbind()
        grad = torch.empty_like(qkvr)
        grad_q, grad_k, grad_v, grad_r = grad.unbind()
        torch.mul(gradient, output > 0, out=grad_r)
        grad_a = products(grad_r, v)
        grad_scores = a * (grad_a - (grad_a * a).sum(2, keepdim=True))
        weighted(grad_scores, k, grad_q)
        weighted(grad_scores.transpose(1, 2), q, grad_k)
        weighted(a.transpose(1, 2), grad_r, grad_v)
        return grad


def products(x: Tensor, y: Tensor) -> Tensor:
    """<x_i, y_j> of all fields: (heads, width, F, B) twice to (heads, F, F, B)."""
    total = x[:, 0].unsqueeze(2) * y[:, 0].unsqueeze(1)
    for c in range(1, x.shape[1]):
        total.addcmul_(x[:, c].unsqueeze(2), y[:, c].unsqueeze(1))
    return total


def weighted(a: Tensor, y: Tensor, total: Tensor) -> Tensor:
    """sum_j a_ij y_j: (heads, F, F, B) and (heads, width, F, B) to `total`, as y."""
    torch.mul(a[:, :, 0].unsqueeze(1), y[:, :, 0].unsqueeze(2), out=total)
    for j in range(1, y.shape[2]):
        total.addcmul_(a[:, :, j].unsqueeze(1), y[:, :, j].unsqueeze(2))
    return total


class Interacting(nn.Module):
    """A layer of multi-head self-attention over fields, with residual (equations 5 to 8).

    Per head: a_ij = softmax_j <Q e_i, K e_j>, e'_i = sum_j a_ij V e_j; then the heads side by side
    give ReLU(e'_i + R e_i). Scores are not scaled, as in the paper.
    """

    def __init__(self, d_in: int, heads: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        # DeepCTR's init: Keras' truncated normal
        weight = torch.empty(d_in, 4 * heads * width)
        nn.init.trunc_normal_(weight, std=0.05, a=-0.1, b=0.1, generator=generator)
        self.weight = nn.Parameter(weight)
        """Q, K, V, R side by side."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (d_in, F, B) to (heads * width, F, B)."""
        projected = self.weight.T @ x.flatten(1)
        qkvr = projected.view(4, self.heads, -1, *x.shape[1:])
        # torch gives a Function's `apply` no types
        attended: Tensor = FieldAttention.apply(qkvr)  # type: ignore[no-untyped-call]
        return attended.flatten(0, 1)


class Model(CTRModel):
    """Attention and tower side by side under one head, and the linear part."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.linear = LinearPart(plan)
        widths = [self.settings.embedding_dim, *[HEADS * HEAD_WIDTH] * LAYERS]
        self.attention = nn.Sequential(
            *(Interacting(d, HEADS, HEAD_WIDTH, plan.generator) for d, _ in pairwise(widths))
        )

    def head_input(self) -> int:
        return len(self.schema.fields) * HEADS * HEAD_WIDTH + super().head_input()

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        e = self.embedding(fields)
        parts = [self.attention(part.permute(2, 1, 0)) for part in e.split(ROWS)]
        attended = torch.cat([part.permute(2, 1, 0).flatten(1) for part in parts])
        wide: Tensor = self.linear(fields, dense)
        hidden = deep(self.concatenated(e, dense))
        return wide + torch.cat([attended, hidden], 1) @ self.head
