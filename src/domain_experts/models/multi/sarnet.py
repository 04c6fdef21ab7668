"""SAR-Net (Shen et al. 2021, arXiv 2110.06475): scenarios scale what shared and own experts see.

    z       = beta_d * x + gamma_d                        (scenario-specific linear transform)
    m_t     = sum_k g_{t,k} E_k(z),  g_t = softmax(z W_t + b_t)          (multi-scenario gate)
    logit_t = tower_t(m_t)

E_k are the experts of scenario d and those that all scenarios share.

After abstract and figure. The paper's attention over a user's behaviour across scenarios, and the
bias nets of its experts, need sequences and a coefficient of manual intervention that no data set
here has: both are left out, as in Scenario-Wise Rec. An expert is layers of this package, and each
task has a gate and a tower.
"""

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Towers, by_domain
from domain_experts.models.multi.units import UnitGates


class Model(MultiModel):
    """SAR-Net; what belongs to a task serves all scenarios."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.sarnet, context.generator
        width = context.settings.hidden[-1]
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.beta = nn.Parameter(torch.ones(domains, self.width))
        self.gamma = nn.Parameter(torch.zeros(domains, self.width))
        widths = (self.width, own.expert_hidden, width)
        self.shared_experts = Experts(own.shared_experts, widths, generator)
        self.own_experts = nn.ModuleList(
            Experts(own.domain_experts, widths, generator) for _ in range(domains)
        )
        gated = own.domain_experts + own.shared_experts
        self.gates = UnitGates(tasks, self.width, gated, generator)
        self.towers = Towers(1, tasks, width, width, generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        beta, gamma = self.beta.unbind(), self.gamma.unbind()
        parts = by_domain(x, counts)
        z = torch.cat([torch.addcmul(gamma[d], beta[d], own) for d, own in parts])
        own = torch.cat([self.own_experts[d](rows) for d, rows in by_domain(z, counts)])
        experts = torch.cat([own, self.shared_experts(z)], 1)
        logits: Tensor = self.towers(torch.bmm(self.gates(z), experts), [len(x)])
        return logits
