"""AdaptDHM (Li et al. 2022, arXiv 2211.12105): rows find clusters, which stand in for domains.

    k       = argmax_j r_j,  r = softmax_j(sg(x)' C_j)             (distribution coefficients)
    h^(l)   = ReLU(LN(h^(l-1) (W_k^(l) * W^(l)) + b_k^(l) + b^(l))),  h^(0) = x
    logit_t = v_{k,t}' h^(L) + c_{k,t},  v_k and c_k made like W and b

    C_j <- normalised(beta C_j + (1 - beta) sum_rows r_j x)      (a few times a training batch)

sg stops the gradient. The domain plays no part but by fields that tell it.

After abstract and figure, and Scenario-Wise Rec's routing; that code makes biases, but adds none.
The norm is this package's.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.groups import group
from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.star import StarLinear

ROUNDS = 3
"""Times that the centres move in a batch, as in Scenario-Wise Rec."""


class Clustering(nn.Module):
    """The cluster of each row; in training its centres follow the rows first."""

    centres: Tensor

    def __init__(
        self, clusters: int, width: int, momentum: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.momentum = momentum
        start = functional.normalize(torch.randn(clusters, width, generator=generator))
        self.register_buffer("centres", start)

    def forward(self, x: Tensor) -> Tensor:
        """Numbers (B,) of the clusters of x (B, width)."""
        x = x.detach()
        if self.training:
            for _ in range(ROUNDS):
                pulled = (x @ self.centres.T).softmax(1).T @ x
                moved = self.momentum * self.centres + (1 - self.momentum) * pulled
                self.centres.copy_(functional.normalize(moved))
        return (x @ self.centres.T).argmax(1)


class Model(MultiModel):
    """AdaptDHM; the tasks share all but their output weights."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.adaptdhm, context.generator
        self.clusters, tasks = own.clusters, len(context.schema.tasks)
        self.clustering = Clustering(own.clusters, self.width, own.momentum, generator)
        self.layers = nn.ModuleList(
            StarLinear(own.clusters, i, o, generator)
            for i, o in pairwise((self.width, *own.hidden))
        )
        self.norms = nn.ModuleList(map(nn.LayerNorm, own.hidden))
        self.head = StarLinear(own.clusters, own.hidden[-1], tasks, generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        groups = group(self.clustering(x), self.clusters)
        return groups.back(self.by_cluster(x[groups.order], groups.counts))

    def by_cluster(self, x: Tensor, counts: list[int]) -> Tensor:
        """Logits (B, T) of x (B, I), sorted by cluster."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = torch.relu(norm(layer(x, counts)))
        logits: Tensor = self.head(x, counts)
        return logits
