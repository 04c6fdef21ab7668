"""What the CTR models share; each backbone adds its interaction part."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Routing, Tower
from domain_experts.models.context import Context
from domain_experts.models.dropout import KeyedDropout
from domain_experts.models.embedding import FusedEmbedding
from domain_experts.models.init import glorot
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings

CTRContext = Context[ModelSettings]
Deep = Callable[[Tensor], Tensor]


class ClickModel(nn.Module, ABC):
    """Logits (B, T) from codes, dense features and domain ids.

    `dropout` is the one dropout of the model. A model with experts has a `router` from domain ids
    and the tower's input to a routing; without one, its experts are left out.
    """

    def __init__(self, schema: Schema, dropout: float) -> None:
        super().__init__()
        self.schema = schema
        self.dropout = KeyedDropout(dropout)
        self.router: nn.Module | None = None

    @abstractmethod
    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        """Logits (B, T).

        Args:
            fields: codes (B, C).
            dense: dense features (B, K).
            domain: domain ids (B,).
            routing: takes the place of the router's.
        """

    @property
    def experts(self) -> int:
        """Number of experts E."""
        return 0

    def experts_moved(self) -> list[bool]:
        """Of each expert, whether it changes anything: none does at the start."""
        return []

    def dropped(self) -> list[nn.Parameter]:
        """The weights whose outputs the dropout drops."""
        return list(self.parameters())

    def penalised(self) -> list[nn.Parameter]:
        """The parameters under the L2 penalty: embeddings and linear weights."""
        modules = (m for m in self.modules() if isinstance(m, FusedEmbedding | LinearPart))
        return list({id(p): p for m in modules for p in m.parameters()}.values())

    def auxiliary_loss(self) -> Tensor | None:
        """What the last batch adds to the loss besides the cross entropy."""
        return None

    def row_losses(self, labels: Tensor) -> Tensor | None:
        """What each row (B,) of the last batch adds, as to a task's loss; labels are (B, T)."""
        return None


class CTRModel(ClickModel):
    """A CTR model whose deep tower takes experts.

    A subclass gives the logits from embeddings and tower (`logits`), and, where they differ from
    the defaults, the widths of the tower's input (`tower_input`) and of the head's (`head_input`).
    """

    def __init__(self, context: CTRContext) -> None:
        schema, settings, generator = context.schema, context.settings, context.generator
        super().__init__(schema, settings.dropout)
        self.settings = settings
        self.bias = nn.Parameter(torch.zeros(len(schema.tasks)))
        self.embedding = field_embedding(context)
        self.tower = Tower(
            self.tower_input(),
            settings.hidden,
            self.dropout,
            context.dropout_last,
            context.tower_init,
            generator,
        )
        self.head = nn.Parameter(
            glorot("glorot_normal", self.head_input(), len(schema.tasks), generator)
        )

    def tower_input(self) -> int:
        """Width of the tower's input; by default the concatenated embeddings and dense features."""
        return len(self.schema.fields) * self.settings.embedding_dim + len(self.schema.dense)

    def head_input(self) -> int:
        """Width of what the head `self.head` (width, T) is applied to; by default the tower's."""
        return self.settings.hidden[-1]

    @abstractmethod
    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        """The model's equation: logits (B, T) before the bias; `deep` is the routed tower."""

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        def deep(x: Tensor) -> Tensor:
            routed = routing
            if routing is None and self.router is not None:
                routed = self.router(domain, x.detach())
            hidden: Tensor = self.tower(x, routed)
            return hidden

        return self.logits(fields, dense, deep) + self.bias

    @property
    def experts(self) -> int:
        return self.tower.experts

    def experts_moved(self) -> list[bool]:
        return self.tower.experts_moved()

    def dropped(self) -> list[nn.Parameter]:
        return self.tower.shared()

    def auxiliary_loss(self) -> Tensor | None:
        """The sum of the terms that router and tower add, if any."""
        of_router = getattr(self.router, "auxiliary", list)
        terms = [*of_router(), *self.tower.auxiliary()]
        return torch.stack(terms).sum() if terms else None

    @staticmethod
    def concatenated(e: Tensor, dense: Tensor) -> Tensor:
        """x_0 (B, F d + K): the embeddings e (B, F, d) side by side, then dense features (B, K)."""
        return beside(e.flatten(1), dense)


def beside(x: Tensor, dense: Tensor) -> Tensor:
    """Put x (B, h) and dense features (B, K) side by side: (B, h + K)."""
    # a copy of x for nothing would take as long as to look up its embeddings
    return torch.cat([x, dense], 1) if dense.shape[1] else x


def field_embedding(context: CTRContext) -> FusedEmbedding:
    """The embedding of all fields, those with pretrained vectors frozen."""
    names = [name for name, _ in context.schema.fields]
    return FusedEmbedding(
        context.schema.sizes,
        context.settings.embedding_dim,
        context.embedding_std,
        context.generator,
        {names.index(name): table for name, table in context.vectors.items()},
        context.schema.widths,
    )


class LinearPart(nn.Module):
    """The wide part: one weight per code and per dense feature, zero at the start.

    A pooled field adds the mean of its ids' weights.
    """

    def __init__(self, context: CTRContext) -> None:
        super().__init__()
        tasks = len(context.schema.tasks)
        schema = context.schema
        self.weights = FusedEmbedding(
            schema.sizes, tasks, 0.0, context.generator, widths=schema.widths
        )
        self.dense = nn.Parameter(torch.zeros(len(context.schema.dense), tasks))

    def forward(self, fields: Tensor, dense: Tensor) -> Tensor:
        """Map codes (B, C) and dense (B, K) to (B, T)."""
        wide: Tensor = self.weights(fields).sum(1)
        # a product with nothing takes as long as a small one
        return wide + dense @ self.dense if dense.shape[1] else wide
