"""HoME (Wang et al. 2024, arXiv 2408.05430): tasks share by category, and experts are kept alike.

    E(v)    = Swish(BatchNorm((v * gate(v)) W + b))                         (expert)
    gate(v) = sum_l softmax_l(v G) 2 sigmoid(v B_l A_l)                     (feature gate)
    z_c     = sum g_c [E_c, E_0](x) + sum s_c E_c(x)                        (category c)
    z_0     = sum g_0 [E_1, ..., E_C, E_0](x) + sum s_0 E_0(x)              (shared by all)
    h_t     = sum g_t [E_t(z_c), E'_c(z_c), E'_0(z_0)] + sum s_t E_t(z_c)   (task t of category c)
    logit   = tower_{d,t}(h_t)

g are softmax gates of x over the experts that a unit may see (the hierarchy mask), and s the self
gates over its own: softmax, or sigmoid of one expert alone. The experts of a unit share a feature
gate, as in public code. The paper sorts tasks into interaction and watching by hand; here they are
shared out over `categories` in the order in which they are declared.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Towers, uniform
from domain_experts.models.multi.hinet import mixed
from domain_experts.models.multi.settings import HoMESettings
from domain_experts.models.multi.units import UnitGates


class FeatureGate(nn.Module):
    """sum_l softmax_l(v G) 2 sigmoid(v B_l A_l): factors of what U units see."""

    def __init__(
        self, units: int, width: int, own: HoMESettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        parts, rank = own.gate_parts, own.gate_rank
        self.G = uniform(generator, width, units, width, parts)
        self.B = uniform(generator, width, units, parts, width, rank)
        self.A = uniform(generator, rank, units, parts, rank, width)

    def forward(self, v: Tensor) -> Tensor:
        """Factors (U, B, d) of v (U, B, d)."""
        parts = 2 * ((v.unsqueeze(1) @ self.B) @ self.A).sigmoid()
        weights = (v @ self.G).softmax(2).transpose(1, 2)
        return (weights.unsqueeze(3) * parts).sum(1)


class NormedExperts(nn.Module):
    """k experts Swish(BatchNorm((v * gate(v)) W + b)) of each of U units on the unit's own v."""

    mean: Tensor
    var: Tensor

    def __init__(
        self, units: int, d_in: int, d_out: int, own: HoMESettings, generator: torch.Generator
    ) -> None:
        super().__init__()
        wide = own.experts * d_out
        self.shape = (own.experts, d_out)
        self.gate = FeatureGate(units, d_in, own, generator)
        self.W = uniform(generator, d_in, units, d_in, wide)
        self.b = uniform(generator, d_in, units, wide)
        self.gamma = nn.Parameter(torch.ones(units * wide))
        self.beta = nn.Parameter(torch.zeros(units * wide))
        self.register_buffer("mean", torch.zeros(units * wide))
        self.register_buffer("var", torch.ones(units * wide))

    def forward(self, v: Tensor) -> Tensor:
        """Map v (B, U, d_in) to (B, U, k, d_out)."""
        v = v.transpose(0, 1)
        y = torch.baddbmm(self.b.unsqueeze(1), v * self.gate(v), self.W).transpose(0, 1)
        # one row has no variance
        moments = self.training and len(y) > 1
        flat = functional.batch_norm(
            y.flatten(1), self.mean, self.var, self.gamma, self.beta, training=moments
        )
        return functional.silu(flat).view(-1, len(self.W), *self.shape)


class SelfGates(UnitGates):
    """s_u = softmax(x W_u + b_u) over a unit's own experts; sigmoid where it has one alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Weights (B, U, k) of x (B, d_in)."""
        if self.b.shape[1] > 1:
            return super().forward(x)
        return (x @ self.W.squeeze(2).T + self.b.squeeze(1)).sigmoid().unsqueeze(2)


class Model(MultiModel):
    """HoME; what belongs to a task serves all domains, and each objective has a tower."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.home, context.generator
        width, x, k = context.settings.hidden[-1], self.width, own.experts
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.category = categories(tasks, own.categories)
        C = self.category[-1] + 1
        self.meta_experts = NormedExperts(C + 1, x, own.meta_width, own, generator)
        self.meta_gates = UnitGates(C, x, 2 * k, generator)
        self.meta_shared_gate = UnitGates(1, x, (C + 1) * k, generator)
        self.meta_self_gates = SelfGates(C + 1, x, k, generator)
        self.task_experts = NormedExperts(tasks + C + 1, own.meta_width, width, own, generator)
        self.gates = UnitGates(tasks, x, 3 * k, generator)
        self.self_gates = SelfGates(tasks, x, k, generator)
        self.towers = Towers(domains, tasks, width, width, generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        logits: Tensor = self.towers(self.of_tasks(x, self.meta(x)), counts)
        return logits

    def meta(self, x: Tensor) -> Tensor:
        """Representations z (B, C + 1, h) of the categories and, last, of all, for x (B, I)."""
        E = self.meta_experts(x.unsqueeze(1).expand(-1, self.category[-1] + 2, -1))
        own, shared = E[:, :-1], E[:, -1:]
        seen = torch.cat([own, shared.expand_as(own)], 2)
        z = [
            mixed(self.meta_gates(x), seen),
            mixed(self.meta_shared_gate(x), E.flatten(1, 2).unsqueeze(1)),
        ]
        return torch.cat(z, 1) + mixed(self.meta_self_gates(x), E)

    def of_tasks(self, x: Tensor, z: Tensor) -> Tensor:
        """What the towers see (B, T, h) for x (B, I) and z (B, C + 1, h)."""
        tasks = len(self.category)
        E = self.task_experts(torch.cat([z[:, self.category], z], 1))
        own, local, shared = E[:, :tasks], E[:, tasks:-1], E[:, -1:]
        seen = torch.cat([own, local[:, self.category], shared.expand_as(own)], 2)
        return mixed(self.gates(x), seen) + mixed(self.self_gates(x), own)


def categories(tasks: int, most: int) -> Sequence[int]:
    """The category of each task: tasks in their order, shared out as evenly as can be."""
    count = min(most, tasks)
    return [t * count // tasks for t in range(tasks)]
