"""AdaTT (Li et al. 2023, arXiv 2304.04959): units that fuse the experts of all, level by level.

    y_u = sum_e g_{u,e} E_e + sum_i v_{u,i} E_{u,i},  g_u = softmax(x_u W_u + b_u)

The first sum is over the experts of all units, each on its own unit's input; the second, the
residual, is over the unit's own. There is a unit for each objective and a shared one. A level's
y_u are the next one's x_u; the first has x for all, and the last does not fuse for the shared unit.
Where all units have one expert only, it is the residual, without a weight.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Towers, uniform
from domain_experts.models.multi.units import UnitExperts, UnitGates, level_widths, own_rows


class Level(nn.Module):
    """A level of groups of units: the objectives of each domain, then perhaps the shared unit.

    Args:
        groups: units and experts of a unit, of each group.
        fusing: groups that fuse, the first ones.
        widths: of the experts, input first.
        generator: random stream of the initial weights.
    """

    def __init__(
        self,
        groups: Sequence[tuple[int, int]],
        fusing: int,
        widths: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.experts = nn.ModuleList(UnitExperts(U, m, widths, generator) for U, m in groups)
        everyone = sum(U * m for U, m in groups)
        self.gates = nn.ModuleList(
            UnitGates(U, widths[0], everyone, generator) for U, _ in groups[:fusing]
        )
        weighted = any(m > 1 for _, m in groups)
        self.v = nn.ParameterList(
            uniform(generator, m, U, m, 1) for U, m in groups[:fusing] if weighted
        )

    def forward(self, inputs: Sequence[Tensor], counts: list[int] | None) -> list[Tensor]:
        """Fused outputs y_u (B, U, h) of each group that fuses.

        Args:
            inputs: x_u (B, U, d_in) or (B, d_in) of each group.
            counts: rows of each domain, if domains fuse for their own rows alone.
        """
        own = [experts(x) for experts, x in zip(self.experts, inputs, strict=True)]
        everyone = torch.cat([experts.flatten(1, 2) for experts in own], 1)
        fusing = len(self.gates)
        inputs, own = inputs[:fusing], own[:fusing]
        if counts is None:
            E: Sequence[Tensor] = [everyone] * fusing
        else:
            inputs, own = own_rows(inputs, counts), own_rows(own, counts)
            E = torch.split(everyone, counts)
        residual = [v * y for v, y in zip(self.v, own, strict=True)] if self.v else own
        parts = zip(self.gates, inputs, E, residual, strict=True)
        return [torch.bmm(gate(x), y) + native.sum(2) for gate, x, y, native in parts]


class Model(MultiModel):
    """AdaTT. The last level fuses for the objectives of a row's own domain alone."""

    shared_unit: ClassVar[bool] = True

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, hidden, generator = context.settings.adatt, context.settings.hidden, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        groups = [(tasks, own.experts)] * domains
        if self.shared_unit:
            groups.append((1, own.shared_experts))
        self.groups = len(groups)
        *lower, last = level_widths(self.width, hidden, own.levels)
        levels = [Level(groups, len(groups), widths, generator) for widths in lower]
        self.levels = nn.ModuleList([*levels, Level(groups, domains, last, generator)])
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        inputs = [x] * self.groups
        for level in self.levels[:-1]:
            inputs = level(inputs, None)
        y = self.levels[-1](inputs, counts)
        logits: Tensor = self.towers(torch.cat(y), counts)
        return logits
