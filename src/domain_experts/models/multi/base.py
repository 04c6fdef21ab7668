"""What the multi-domain multi-task models share."""

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Routing
from domain_experts.models.context import Context
from domain_experts.models.ctr import ClickModel
from domain_experts.models.embedding import FusedEmbedding
from domain_experts.models.groups import Groups, group
from domain_experts.models.multi.settings import MultiModelSettings

# M3oE's released code
EMBEDDING_STD = 1e-4


MultiContext = Context[MultiModelSettings]


class MultiModel(ClickModel):
    """Logits of an objective (d, t) for each row, which is of one domain d, and each task t.

    A subclass maps x = [e_1, ..., e_F, dense] to logits, for rows that stand together by domain, so
    that each row visits only what belongs to its domain. All weights are penalised, as by the
    optimiser of M3oE's released code.
    """

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context.schema, dropout=0.0)
        dim = context.settings.embedding_dim
        self.embedding = FusedEmbedding(
            context.schema.sizes,
            dim,
            EMBEDDING_STD,
            context.generator,
            widths=context.schema.widths,
        )
        self.width = len(context.schema.fields) * dim + len(context.schema.dense)
        """Width I of x."""
        self._groups: Groups | None = None

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
        x, groups = self.rows(fields, dense, domain)
        self._groups = groups if self.training else None
        return groups.back(self.grouped(x, groups.counts))

    def row_losses(self, labels: Tensor) -> Tensor | None:
        if self._groups is None:
            return None
        losses = self.grouped_losses(labels[self._groups.order])
        return None if losses is None else self._groups.back(losses)

    def grouped_losses(self, labels: Tensor) -> Tensor | None:
        """What the rows of the last `grouped` add to the loss (B,), for their labels (B, T)."""
        return None

    def rows(self, fields: Tensor, dense: Tensor, domain: Tensor) -> tuple[Tensor, Groups]:
        """X (B, I) of rows that stand together by domain, and how they do."""
        groups = group(domain, len(self.schema.domains))
        order = groups.order
        return torch.cat([self.embedding(fields[order]).flatten(1), dense[order]], 1), groups

    def outputs(self, x: Tensor, counts: list[int]) -> dict[str, Tensor]:
        """What inner parts give, by name: (B, E, h). Arguments as of `grouped`."""
        return {}

    def penalised(self) -> list[nn.Parameter]:
        return list(self.parameters())

    def legs(self) -> Mapping[str, Mapping[str, nn.Parameter]]:
        """The legs of its training, one after the other, and what each trains, by name."""
        return {"joint": dict(self.named_parameters())}

    def scalars(self) -> Mapping[str, nn.Parameter]:
        """Parameters of the architecture, which AutoML trains apart from the weights."""
        return {}
