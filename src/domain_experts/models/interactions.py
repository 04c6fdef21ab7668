"""Interactions between pairs of field embeddings, shared by several backbones."""

from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from domain_experts.models.functions import applied


def pairs(fields: int) -> Tensor:
    """Field numbers i < j of all P = F (F - 1) / 2 pairs, (2, P)."""
    return torch.tensor(list(combinations(range(fields), 2)), dtype=torch.int64).reshape(-1, 2).T


class BiInteraction(torch.autograd.Function):
    """Half of (sum_i e_i)^2 - sum_i e_i^2: in time linear in F. Its gradient is sum_{i!=j} e_i."""

    @staticmethod
    def forward(ctx: Any, e: Tensor) -> Tensor:
        total = e.sum(1)
        ctx.save_for_backward(e, total)
        return (total.square() - e.square().sum(1)).div_(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        e, total = ctx.saved_tensors
        others: Tensor = total.unsqueeze(1) - e
        return others.mul_(gradient.unsqueeze(1))


def bi_interaction(e: Tensor) -> Tensor:
    """sum_{i<j} e_i * e_j elementwise, (B, F, d) to (B, d) (He and Chua 2017)."""
    return applied(BiInteraction, e)
