"""M3oE (Zhang et al. 2024, arXiv 2404.18465): shared, domain and task experts, fused twice.

    h       = layer(f_DR(x)) + layer(x),  f_DR(x) = x (W_d * W) + b_d + b           (eq. 1-2)
    S_{d,t} = sum_n g_{d,t,n} E_n(h),     g_{d,t} = softmax of h, without gradient  (eq. 3)
    D_d     = b_D F_d(h) + (1 - b_D) / (D - 1) sum_{d' != d} F_{d'}(h)              (eq. 4-5)
    T_t     = b_T G_t(h) + (1 - b_T) / (T - 1) sum_{t' != t} G_{t'}(h)              (eq. 6)
    logit   = tower_{d,t}(S_{d,t} + a_D D_d + a_T T_t)                              (eq. 7-9)

The paper prints a_D and a_T the other way round in eq. 7, and no norms; this is the released code.
Each of S, D, T is a weighted sum of experts, and so is their sum: one product with all experts.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Gates, Layer, Towers, bottom_widths, side_by_side
from domain_experts.models.star import StarLinear


class Module(NamedTuple):
    """A weighted sum of experts."""

    experts: Layer
    weights: Tensor
    """(B, T, n), of its n experts."""
    scale: Tensor
    """Its own weight in the sum of the modules."""


class Model(MultiModel):
    """M3oE.

    The weights a_D, a_T, b_D, b_T are sigmoids of four scalars, which all domains and tasks share
    (eq. 10). With one domain D is F_1 alone, with one task T is G_1.
    """

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.m3oe, context.generator
        bottom, width, last = bottom_widths(context.settings.hidden)
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.switches = own
        self.representation = StarLinear(domains, self.width, bottom, generator)
        self.conversion = Layer(1, bottom, width, generator)
        self.adaptation = Layer(1, self.width, width, generator)
        self.shared = Layer(own.shared_experts, width, last, generator)
        self.by_domain = Layer(domains, width, last, generator)
        self.by_task = Layer(tasks, width, last, generator)
        gated = own.shared_experts + (2 if own.fusion == "gated" else 0)
        self.gates = Gates(domains, tasks, width, gated, generator)
        joined = 3 * last if own.fusion == "concatenated" else last
        batch_norm = own.tower_norm == "batch"
        self.towers = Towers(domains, tasks, joined, last, generator, batch_norm)
        names = ("a_D", "a_T", "b_D", "b_T")
        self.fusion = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor([context.fusion_start])) for name in names}
        )

    def scalars(self) -> dict[str, nn.Parameter]:
        return dict(self.fusion.items())

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = self.hidden(x, counts)
        logits: Tensor = self.towers(self.fused(h, self.fusion_modules(h, counts)), counts)
        return logits

    def hidden(self, x: Tensor, counts: list[int]) -> Tensor:
        """What experts and gates see: h (B, width)."""
        both: Tensor = self.conversion(self.representation(x, counts)) + self.adaptation(x)
        return both.squeeze(1)

    def fusion_modules(self, h: Tensor, counts: list[int]) -> dict[str, Module]:
        """The modules in use, by the paper's letters."""
        a_D, a_T, b_D, b_T = (self.fusion[k].sigmoid() for k in ("a_D", "a_T", "b_D", "b_T"))
        N, domains, tasks = (len(own.W) for own in (self.shared, self.by_domain, self.by_task))
        g = self.gates(h.detach(), counts)
        if self.switches.fusion == "gated":
            g, a_D, a_T = torch.split(g, [N, 1, 1], 2)
        own = [w.expand(n, tasks, -1) for w, n in zip(against(b_D, domains), counts, strict=True)]
        modules = {"S": Module(self.shared, g, torch.ones_like(b_D))}
        if self.switches.domain_module:
            modules["D"] = Module(self.by_domain, torch.cat(own), a_D)
        if self.switches.task_module:
            modules["T"] = Module(self.by_task, against(b_T, tasks).expand(len(h), -1, -1), a_T)
        return modules

    def fused(self, h: Tensor, modules: dict[str, Module]) -> Tensor:
        """What the towers see: (B, T, h), or (B, T, 3 h) concatenated."""
        experts = side_by_side(h, [module.experts for module in modules.values()])
        weights = [module.scale * module.weights for module in modules.values()]
        if self.switches.fusion != "concatenated":
            return torch.bmm(torch.cat(weights, 2), experts)
        each = torch.split(experts, [w.shape[2] for w in weights], 1)
        return torch.cat([torch.bmm(w, e) for w, e in zip(weights, each, strict=True)], 2)

    def outputs(self, x: Tensor, counts: list[int]) -> dict[str, Tensor]:
        """Outputs of all experts (B, n, h), of the modules and of their fusion (B, T, h).

        E, F, G are the experts of S, D, T.
        """
        h = self.hidden(x, counts)
        modules = self.fusion_modules(h, counts)
        outputs = {"fused": self.fused(h, modules)}
        for name, experts in zip("SDT", "EFG", strict=True):
            if name in modules:
                outputs[experts] = modules[name].experts(h)
                outputs[name] = torch.bmm(modules[name].weights, outputs[experts])
        return outputs


def against(weight: Tensor, experts: int) -> Tensor:
    """Weights (E, E) of each expert against the mean of the others: w, and (1 - w) / (E - 1)."""
    if experts == 1:
        return torch.ones_like(weight).view(1, 1)
    own = torch.eye(experts, dtype=weight.dtype, device=weight.device)
    return weight * own + (1 - weight) / (experts - 1) * (1 - own)
