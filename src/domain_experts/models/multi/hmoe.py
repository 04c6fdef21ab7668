"""HMoE (Li et al. 2020): a scenario's prediction is a mean of those of all scenarios.

    o_{m,t} = tower_{m,t}(sum_n softmax_n(x V_{m,t} + v_{m,t}) E_n(x))     (feature space)
    p_{d,t} = sum_m w_{d,t,m} sigmoid(o_{m,t})                             (label space)
    w_{d,t} = softmax(x W_{d,t} + b_{d,t})
    logit   = log p - log(1 - p)

A row has the gates and towers of all scenarios m. Of the predictions for m other than the row's own
d there is no gradient, so that a scenario's rows alone train what is its own. The abstract speaks
of relationships in the label space, and so predictions are mixed here; MMLRec mixes the hidden
layers of the towers.
"""

import torch
from torch import Tensor
from torch.nn import functional

from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Gates, Towers
from domain_experts.models.multi.rows import of_rows


class Model(MultiModel):
    """HMoE; with one scenario it is MMoE."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        hidden, generator = context.settings.hidden, context.generator
        N = context.settings.hmoe.experts
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.shared = Experts(N, (self.width, *hidden), generator)
        self.gates = Gates(domains, tasks, self.width, N, generator)
        self.towers = Towers(domains, tasks, hidden[-1], hidden[-1], generator)
        self.relations = (
            Gates(domains, tasks, self.width, domains, generator) if domains > 1 else None
        )

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        E = self.shared(x)
        own: Tensor = self.towers(torch.bmm(self.gates(x, counts), E), counts)
        if self.relations is None:
            return own
        itself = torch.eye(len(counts), dtype=torch.bool, device=x.device)
        o = torch.where(
            of_rows(itself, counts).unsqueeze(1), own.unsqueeze(2), self.of_all(x, E.detach())
        )
        return mixture(self.relations(x, counts), o)

    def of_all(self, x: Tensor, E: Tensor) -> Tensor:
        """Logits (B, T, D) of every scenario for x (B, I) with experts E (B, n, h).

        All without a gradient.
        """
        gates, towers, x = self.gates, self.towers, x.detach()
        W, b = gates.W.detach(), gates.b.detach()
        g = (x @ W + b.unsqueeze(1)).view(len(W), -1, *gates.shape).softmax(3)
        h = torch.einsum("dbti,dtio->dbto", g @ E, towers.W.detach())
        h = functional.layer_norm(h + towers.b.detach().unsqueeze(1), h.shape[-1:])
        scaled = h * towers.gamma.detach().unsqueeze(1) + towers.beta.detach().unsqueeze(1)
        logits = (scaled.relu() * towers.v.detach().unsqueeze(1)).sum(3)
        return (logits + towers.c.detach().unsqueeze(1)).permute(1, 2, 0)


def mixture(weights: Tensor, logits: Tensor) -> Tensor:
    """Logit (...) of the mean of sigmoid(logits) (..., m) with weights (..., m) that sum to one."""
    # a weight that is zero in floating point has no logarithm
    log_w = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
    yes, no = (log_w - functional.softplus(sign * logits) for sign in (-1, 1))
    return yes.logsumexp(-1) - no.logsumexp(-1)
