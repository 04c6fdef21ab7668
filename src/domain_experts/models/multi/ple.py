"""PLE (Tang et al. 2020): experts of each objective and shared ones, extracted level by level.

    y_{d,t} = sum_i g_{d,t,i} [E_{d,t,1..K}(x_{d,t}), E_{s,1..M}(x_s)]_i
    y_s     = sum_i g_{s,i} [E_{1,1,1..K}(x_{1,1}), ..., E_{D,T,1..K}(x_{D,T}), E_{s,1..M}(x_s)]_i

The gate g_{d,t} is a softmax of x_{d,t}, and g_s of x_s. A level's y are the next one's inputs;
the first has x for all, the last (CGC) has no y_s, and its y_{d,t} are the towers' inputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Towers
from domain_experts.models.multi.settings import PLESettings
from domain_experts.models.multi.units import UnitExperts, UnitGates, level_widths, own_rows


class CGC(nn.Module):
    """The experts of a level's objectives, and their gates."""

    def __init__(
        self,
        domains: int,
        tasks: int,
        settings: PLESettings,
        widths: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        K, M = settings.specific_experts, settings.shared_experts
        self.specific = nn.ModuleList(
            UnitExperts(tasks, K, widths, generator) for _ in range(domains)
        )
        self.gates = nn.ModuleList(
            UnitGates(tasks, widths[0], K + M, generator) for _ in range(domains)
        )

    def forward(
        self, inputs: Sequence[Tensor], shared: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs (B_d, T, h) and specific experts (B_d, T, K, h) of each domain's objectives.

        Args:
            inputs: x_{d,t} (B_d, T, d_in) of each domain d, or (B_d, d_in) where it is one.
            shared: outputs (B_d, M, h) of the shared experts for the same rows.
        """
        experts = [own(x) for own, x in zip(self.specific, inputs, strict=True)]
        parts = zip(self.gates, inputs, experts, shared, strict=True)
        return [fused(gate(x), own, common) for gate, x, own, common in parts], experts


def fused(weights: Tensor, own: Tensor, shared: Tensor) -> Tensor:
    """Sum of the experts of T objectives by their weights.

    Args:
        weights: (B, T, K + M), those of an objective's own experts first.
        own: outputs (B, T, K, h) of the objectives' own experts.
        shared: outputs (B, M, h) of the shared ones.
    """
    K = own.shape[2]
    return (weights[..., :K, None] * own).sum(2) + torch.bmm(weights[..., K:], shared)


class Model(MultiModel):
    """PLE; with one level it is CGC.

    The last level's specific experts see the rows of their own domain alone, those of the levels
    below see all rows: the shared gate weighs them.
    """

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, hidden, generator = context.settings.ple, context.settings.hidden, context.generator
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        widths = level_widths(self.width, hidden, own.levels)
        self.levels = nn.ModuleList(CGC(domains, tasks, own, w, generator) for w in widths)
        self.shared = nn.ModuleList(Experts(own.shared_experts, w, generator) for w in widths)
        experts = domains * tasks * own.specific_experts + own.shared_experts
        self.shared_gates = nn.ModuleList(
            UnitGates(1, w[0], experts, generator) for w in widths[:-1]
        )
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        inputs, s = [x] * len(counts), x
        # the last level has no shared gate
        for level, shared, gate in zip(self.levels, self.shared, self.shared_gates, strict=False):
            common = shared(s)
            inputs, experts = level(inputs, [common] * len(counts))
            everyone = torch.cat([*(own.flatten(1, 2) for own in experts), common], 1)
            s = torch.bmm(gate(s), everyone).squeeze(1)
        common = torch.split(self.shared[-1](s), counts)
        y, _ = self.levels[-1](own_rows(inputs, counts), common)
        logits: Tensor = self.towers(torch.cat(y), counts)
        return logits
