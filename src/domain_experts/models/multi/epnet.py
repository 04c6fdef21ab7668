"""EPNet (Chang et al. 2023, arXiv 2302.01115): the domain's gate on embeddings, half of PEPNet.

    O     = gate([emb_d, sg(x)]) * x,  gate as in PEPNet               (EPNet)
    logit = v_t' H_t^(L) + c_t,  H_t^(l) = layer_t^(l)(H_t^(l-1)),  H_t^(0) = O

sg stops the gradient. The towers are PEPNet's, without the gates of PPNet.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.multi.base import EMBEDDING_STD, MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, uniform
from domain_experts.models.multi.pepnet import GateUnit


class Model(MultiModel):
    """EPNet; a domain has an embedding, and no tower of its own."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.pepnet, context.generator
        dim = context.settings.embedding_dim
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.domains = nn.Parameter(EMBEDDING_STD * torch.randn(domains, dim, generator=generator))
        self.epnet = GateUnit(dim + self.width, own.gate_hidden, self.width, generator)
        self.towers = Experts(tasks, (self.width, *own.hidden), generator)
        self.v = uniform(generator, own.hidden[-1], tasks, own.hidden[-1])
        self.c = uniform(generator, own.hidden[-1], tasks)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        domain = torch.repeat_interleave(torch.tensor(counts, device=x.device))
        of_domain = functional.embedding(domain, self.domains)
        gated = self.epnet(torch.cat([of_domain, x.detach()], 1)) * x
        logits: Tensor = (self.towers(gated) * self.v).sum(2) + self.c
        return logits
