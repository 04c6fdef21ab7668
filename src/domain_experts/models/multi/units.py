"""Blocks of PLE and AdaTT, whose units have experts, a gate and, above the first level, an input.

A unit is an objective, or what all objectives share.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domain_experts.models.multi.blocks import Experts, uniform


class UnitExperts(nn.Module):
    """k experts of each of U units, on one input or on each unit's own."""

    def __init__(
        self, units: int, each: int, widths: Sequence[int], generator: torch.Generator
    ) -> None:
        super().__init__()
        self.units, self.each = units, each
        self.experts = Experts(units * each, widths, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, widths[0]) or (B, U, widths[0]) to (B, U, k, widths[-1])."""
        if x.dim() == 3:
            x = x.repeat_interleave(self.each, 1)
        y: Tensor = self.experts(x)
        return y.view(len(y), self.units, self.each, y.shape[2])


class UnitGates(nn.Module):
    """g_u = softmax(x_u W_u + b_u): weights over n experts of U units, on one input or on U."""

    def __init__(self, units: int, d_in: int, experts: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W = uniform(generator, d_in, units, d_in, experts)
        self.b = uniform(generator, d_in, units, experts)

    def forward(self, x: Tensor) -> Tensor:
        """Weights (B, U, n) for x (B, d_in) or (B, U, d_in)."""
        if x.dim() == 2:
            x = x.unsqueeze(1).expand(-1, len(self.W), -1)
        logits = torch.baddbmm(self.b.unsqueeze(1), x.transpose(0, 1), self.W)
        return logits.transpose(0, 1).softmax(2)


def level_widths(d_in: int, hidden: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Widths of the experts of each level, input first: as many layers in each level."""
    widths, each = (d_in, *hidden), len(hidden) // levels
    return [widths[i * each : (i + 1) * each + 1] for i in range(levels)]


def own_rows(inputs: Sequence[Tensor], counts: list[int]) -> list[Tensor]:
    """Each domain's rows of its own input (B, ...)."""
    # split once where domains share an input: the backward pass of a split fills all its rows
    split = {id(x): torch.split(x, counts) for x in inputs}
    return [split[id(x)][d] for d, x in enumerate(inputs)]
