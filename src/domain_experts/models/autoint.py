"""AutoInt (Song et al. 2019): logit = linear(x) + w' [attention(e), tower([e_1, ..., e_F])]."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from domain_experts.models.ctr import CTRContext, CTRModel, Deep, LinearPart
from domain_experts.models.functions import applied

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
        scores = products(q, k)
        # autocast on a GPU would take another type than that of the rest
        a = scores.softmax(2, dtype=scores.dtype)
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
        torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=grad_r)
        grad_a = products(grad_r, v)
        grad_scores = torch.ops.aten._softmax_backward_data(grad_a, a, 2, a.dtype)
        weighted(grad_scores, k, grad_q)
        weighted(grad_scores.transpose(1, 2), q, grad_k)
        weighted(a.transpose(1, 2), grad_r, grad_v)
        return grad


def products(x: Tensor, y: Tensor) -> Tensor:
    """<x_i, y_j> of all fields: (heads, width, F, B) twice to (heads, F, F, B)."""
    pairs = zip(x.unsqueeze(3).unbind(1), y.unsqueeze(2).unbind(1), strict=True)
    total = torch.mul(*next(pairs))
    for x_c, y_c in pairs:
        total.addcmul_(x_c, y_c)
    return total


def weighted(a: Tensor, y: Tensor, total: Tensor) -> Tensor:
    """sum_j a_ij y_j: (heads, F, F, B) and (heads, width, F, B) to `total`, as y."""
    terms = zip(a.unsqueeze(1).unbind(3), y.unsqueeze(2).unbind(3), strict=True)
    torch.mul(*next(terms), out=total)
    for a_j, y_j in terms:
        total.addcmul_(a_j, y_j)
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
        return applied(FieldAttention, qkvr).flatten(0, 1)


class Model(CTRModel):
    """Attention and tower side by side under one head, and the linear part."""

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        self.linear = LinearPart(context)
        widths = [self.settings.embedding_dim, *[HEADS * HEAD_WIDTH] * LAYERS]
        self.attention = nn.Sequential(
            *(Interacting(d, HEADS, HEAD_WIDTH, context.generator) for d, _ in pairwise(widths))
        )

    def head_input(self) -> int:
        return len(self.schema.fields) * HEADS * HEAD_WIDTH + super().head_input()

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        e = self.embedding(fields)
        last = self.settings.hidden[-1]
        by_field, tower_head = torch.split(self.head, [len(self.head) - last, last])
        # to (heads * width, F), as the attention gives it
        head = by_field.view(e.shape[1], -1, by_field.shape[1]).transpose(0, 1).flatten(0, 1)
        attended = [
            self.attention(rows.permute(2, 1, 0)).flatten(0, 1).T @ head
            for rows in torch.split(e, ROWS)
        ]
        wide: Tensor = self.linear(fields, dense)
        hidden = deep(self.concatenated(e, dense))
        return wide + torch.cat(attended) + hidden @ tower_head
