"""PEPNet (Chang et al. 2023, arXiv 2302.01115): gates of prior knowledge on embeddings and towers.

    gate(z) = 2 sigmoid(ReLU(z W + b) W' + b')                        (gate neural unit)
    O       = gate([emb_d, sg(x)]) * x                                (EPNet)
    H_t^(l) = gate_t^(l)([e_user, e_item, sg(O)]) * layer_t^(l)(H_t^(l-1)),  H_t^(0) = O
    logit   = v_t' H_t^(L) + c_t                                      (PPNet)

sg stops the gradient. The paper's prior is of user, item and author.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.errors import UserError
from domain_experts.models.multi.base import EMBEDDING_STD, MultiContext, MultiModel
from domain_experts.models.multi.blocks import Layer, uniform

PRIOR = ("user", "item")


class GateUnit(nn.Module):
    """2 sigmoid(ReLU(z W_1 + b_1) W_2 + b_2): factors between 0 and 2."""

    def __init__(self, d_in: int, hidden: int, d_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W_1 = uniform(generator, d_in, d_in, hidden)
        self.b_1 = uniform(generator, d_in, hidden)
        self.W_2 = uniform(generator, hidden, hidden, d_out)
        self.b_2 = uniform(generator, hidden, d_out)

    def forward(self, z: Tensor) -> Tensor:
        """Map z (B, d_in) to (B, d_out)."""
        hidden = torch.relu(torch.addmm(self.b_1, z, self.W_1))
        return 2 * torch.sigmoid(torch.addmm(self.b_2, hidden, self.W_2))


class Model(MultiModel):
    """PEPNet; a domain has an embedding, and no tower of its own.

    Raises:
        UserError: the data set has no field `user` or no field `item`.
    """

    title, name = "PEPNet", "pepnet"
    gates_embeddings = True

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.pepnet, context.generator
        dim, self.tasks = context.settings.embedding_dim, len(context.schema.tasks)
        names = [name for name, _ in context.schema.fields]
        missing = [name for name in PRIOR if name not in names]
        if missing:
            raise UserError(
                f"{self.title}'s gates need the field '{missing[0]}', and the data set has "
                f"{', '.join(names)}; leave {self.name} out under `experiments` in params.yaml"
            )
        self.prior = [slice(j * dim, (j + 1) * dim) for j in map(names.index, PRIOR)]
        if self.gates_embeddings:
            domains = len(context.schema.domains)
            self.domains = nn.Parameter(
                EMBEDDING_STD * torch.randn(domains, dim, generator=generator)
            )
            self.epnet = GateUnit(dim + self.width, own.gate_hidden, self.width, generator)
        self.towers = nn.ModuleList(
            Layer(self.tasks, i, o, generator) for i, o in pairwise((self.width, *own.hidden))
        )
        known = len(PRIOR) * dim + self.width
        self.ppnet = nn.ModuleList(
            GateUnit(known, own.gate_hidden, self.tasks * o, generator) for o in own.hidden
        )
        self.v = uniform(generator, own.hidden[-1], self.tasks, own.hidden[-1])
        self.c = uniform(generator, own.hidden[-1], self.tasks)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        hidden = x
        if self.gates_embeddings:
            domain = torch.repeat_interleave(torch.tensor(counts, device=x.device))
            of_domain = functional.embedding(domain, self.domains)
            hidden = self.epnet(torch.cat([of_domain, x.detach()], 1)) * x
        known = torch.cat([*(x[:, own] for own in self.prior), hidden.detach()], 1)
        for layer, gate in zip(self.towers, self.ppnet, strict=True):
            hidden = gate(known).view(len(x), self.tasks, -1) * layer(hidden)
        logits: Tensor = (hidden * self.v).sum(2) + self.c
        return logits
