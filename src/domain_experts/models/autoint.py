"""AutoInt (Song et al. 2019): logit = linear(x) + w' [attention(e), tower([e_1, ..., e_F])]."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from domain_experts.models.ctr import CTRModel, Deep, LinearPart, Plan

# the released configurations: three layers of four heads, each of width 8
LAYERS = 3
HEADS = 4
HEAD_WIDTH = 8


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
        """Map x (d_in, F, B), rows last, to (heads * width, F, B)."""
        # rows last, because operations on many tiny matrices are slow
        projected = self.weight.T @ x.flatten(1)
        q, k, v, residual = projected.view(4, self.heads, -1, *x.shape[1:]).unbind()
        a = torch.softmax((q.unsqueeze(3) * k.unsqueeze(2)).sum(1), 2)
        attended = (a.unsqueeze(1) * v.unsqueeze(2)).sum(3)
        return torch.relu(attended + residual).flatten(0, 1)


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
        attended = self.attention(e.permute(2, 1, 0))
        wide: Tensor = self.linear(fields, dense)
        hidden = deep(self.concatenated(e, dense))
        return wide + torch.cat([attended.permute(2, 1, 0).flatten(1), hidden], 1) @ self.head
