"""Interactions between pairs of field embeddings, shared by several backbones."""

from itertools import combinations

import torch
from torch import Tensor


def pairs(fields: int) -> Tensor:
    """Field numbers i < j of all P = F (F - 1) / 2 pairs, (2, P)."""
    return torch.tensor(list(combinations(range(fields), 2)), dtype=torch.int64).reshape(-1, 2).T


def bi_interaction(e: Tensor) -> Tensor:
    """sum_{i<j} e_i * e_j elementwise, (B, F, d) to (B, d) (He and Chua 2017)."""
    # in time linear in F: 1/2 ((sum_i e_i)^2 - sum_i e_i^2)
    return (e.sum(1).square() - e.square().sum(1)) / 2
