"""M3oE (Zhang et al. 2024, arXiv 2404.18465): shared, domain and task experts, fused twice.

    h       = layer(f_DR(x)) + layer(x),  f_DR(x) = x (W_d * W) + b_d + b           (eq. 1-2)
    S_{d,t} = sum_n g_{d,t,n} E_n(h),     g_{d,t} = softmax of h, without gradient  (eq. 3)
    D_d     = b_D F_d(h) + (1 - b_D) / (D - 1) sum_{d' != d} F_{d'}(h)              (eq. 4-5)
    T_t     = b_T G_t(h) + (1 - b_T) / (T - 1) sum_{t' != t} G_{t'}(h)              (eq. 6)
    logit   = tower_{d,t}(S_{d,t} + a_D D_d + a_T T_t)                              (eq. 7-9)

The paper prints a_D and a_T the other way round in eq. 7, and no norms; this is the released code.
"""

from functools import reduce

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiModel, MultiPlan
from domain_experts.models.multi.blocks import Experts, Gates, Layer, Towers
from domain_experts.models.star import StarLinear


class Model(MultiModel):
    """M3oE.

    The weights a_D, a_T, b_D, b_T are sigmoids of four scalars, which all domains and tasks share
    (eq. 10). With one domain D is F_1 alone, with one task T is G_1.
    """

    def __init__(self, plan: MultiPlan) -> None:
        super().__init__(plan)
        own, generator = plan.settings.m3oe, plan.generator
        bottom, width, _, last = plan.settings.hidden
        domains, tasks = len(plan.schema.domains), len(plan.schema.tasks)
        self.switches = own
        self.representation = StarLinear(domains, self.width, bottom, generator)
        self.conversion = Layer(1, bottom, width, generator)
        self.adaptation = Layer(1, self.width, width, generator)
        self.shared = Experts(own.shared_experts, (width, last), generator)
        self.by_domain = Experts(domains, (width, last), generator)
        self.by_task = Experts(tasks, (width, last), generator)
        gated = own.shared_experts + (2 if own.fusion == "gated" else 0)
        self.gates = Gates(domains, tasks, width, gated, generator)
        joined = 3 * last if own.fusion == "concatenated" else last
        batch_norm = own.tower_norm == "batch"
        self.towers = Towers(domains, tasks, joined, last, generator, batch_norm)
        names = ("a_D", "a_T", "b_D", "b_T")
        self.fusion = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor([plan.start])) for name in names}
        )

    def scalars(self) -> dict[str, nn.Parameter]:
        return dict(self.fusion.items())

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        logits: Tensor = self.towers(self.outputs(x, counts)["fused"], counts)
        return logits

    def outputs(self, x: Tensor, counts: list[int]) -> dict[str, Tensor]:
        """Outputs of all experts (B, E, h) and of the modules (B, T, h), by the paper's letters.

        `fused` is what the towers see.
        """
        h = self.conversion(self.representation(x, counts)) + self.adaptation(x)
        h = h.squeeze(1)
        domain = torch.repeat_interleave(torch.tensor(counts, device=h.device))
        a_D, a_T, b_D, b_T = (self.fusion[k].sigmoid() for k in ("a_D", "a_T", "b_D", "b_T"))
        E, gates = self.shared(h), self.gates(h.detach(), counts)
        F, G = self.by_domain(h), self.by_task(h)
        own = F[torch.arange(len(h), device=h.device), domain].unsqueeze(1)
        D, T = balanced(own, F, b_D).expand_as(G), balanced(G, G, b_T)
        outputs = {"E": E, "F": F, "G": G, "D": D, "T": T}
        if self.switches.fusion == "gated":
            views = E.unsqueeze(1).expand(-1, len(self.schema.tasks), -1, -1)
            views = torch.cat([views, D.unsqueeze(2), T.unsqueeze(2)], 2)
            return outputs | {"fused": torch.sum(gates.unsqueeze(3) * views, 2)}
        S = torch.bmm(gates, E)
        modules = [S]
        if self.switches.domain_module:
            modules.append(a_D * D)
        if self.switches.task_module:
            modules.append(a_T * T)
        concatenated = self.switches.fusion == "concatenated"
        fused = torch.cat(modules, 2) if concatenated else reduce(torch.add, modules)
        return outputs | {"S": S, "fused": fused}


def balanced(own: Tensor, experts: Tensor, weight: Tensor) -> Tensor:
    """An expert against the mean of the others: w own + (1 - w) / (E - 1) sum of the others.

    Args:
        own: outputs (B, k, h) of one of the experts, or of each in turn.
        experts: outputs (B, E, h) of all.
        weight: w.
    """
    others = experts.shape[1] - 1
    if others == 0:
        return own
    rest = (1 - weight) / others
    return (weight - rest) * own + rest * experts.sum(1, keepdim=True)
