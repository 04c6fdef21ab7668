"""What the multi-domain multi-task models share."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Routing
from domain_experts.models.ctr import ClickModel
from domain_experts.models.embedding import FusedEmbedding
from domain_experts.schema import Schema
from domain_experts.settings import MultiModelSettings

# M3oE's released code
EMBEDDING_STD = 1e-4


@dataclass(frozen=True)
class MultiPlan:
    """What a model is built from."""

    schema: Schema
    settings: MultiModelSettings
    start: float | None
    """Logit at which fusion scalars start, of a model that has some."""
    generator: torch.Generator
    """Random stream of the initial weights."""


class MultiModel(ClickModel):
    """Logits of an objective (d, t) for each row, which is of one domain d, and each task t.

    A subclass maps x = [e_1, ..., e_F, dense] to logits, for rows that stand together by domain, so
    that each row visits only what belongs to its domain. All weights are penalised, as by the
    optimiser of M3oE's released code.
    """

    def __init__(self, plan: MultiPlan) -> None:
        super().__init__(plan.schema, dropout=0.0)
        dim = plan.settings.embedding_dim
        self.embedding = FusedEmbedding(plan.schema.sizes, dim, EMBEDDING_STD, plan.generator)
        self.width = len(plan.schema.fields) * dim + len(plan.schema.dense)
        """Width I of x."""

    @abstractmethod
    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        """The model's equation: logits (B, T).

        Args:
            x: embeddings and dense features (B, I), sorted by domain.
            counts: rows of each of the D domains; may be 0.
        """

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        x, counts, order = self.sorted(fields, dense, domain)
        logits = self.grouped(x, counts)
        return torch.empty_like(logits).index_copy(0, order, logits)

    def sorted(
        self, fields: Tensor, dense: Tensor, domain: Tensor
    ) -> tuple[Tensor, list[int], Tensor]:
        """Rows by domain: x (B, I), the number of rows of each domain, and the order (B,)."""
        order = torch.argsort(domain, stable=True)
        counts = torch.bincount(domain, minlength=len(self.schema.domains)).tolist()
        return torch.cat([self.embedding(fields[order]).flatten(1), dense[order]], 1), counts, order

    def outputs(self, x: Tensor, counts: list[int]) -> dict[str, Tensor]:
        """What inner parts give, by name: (B, E, h). Arguments as of `grouped`."""
        return {}

    def penalised(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def scalars(self) -> Mapping[str, nn.Parameter]:
        """Parameters of the architecture, which AutoML trains apart from the weights."""
        return {}
