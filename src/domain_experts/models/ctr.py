"""What the CTR backbones share: embedding, adapted tower, head. Each adds its interaction part."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Routing, Tower
from domain_experts.models.embedding import FusedEmbedding
from domain_experts.models.init import glorot
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings

Deep = Callable[[Tensor], Tensor]


class CTRModel(nn.Module, ABC):
    """A CTR model whose deep tower takes low-rank experts.

    A subclass gives the width of the tower's input (`tower_input`) and the logits from embeddings
    and tower (`logits`). `router` maps domain ids (B,) to a routing; None leaves the experts out.
    """

    def __init__(
        self, schema: Schema, settings: ModelSettings, tower_init: str, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.schema = schema
        self.settings = settings
        self.embedding = FusedEmbedding(
            schema.sizes, settings.embedding_dim, settings.embedding_std, generator
        )
        self.tower = Tower(
            self.tower_input(), settings.hidden, settings.dropout, tower_init, generator
        )
        self.head = nn.Parameter(
            glorot("glorot_normal", settings.hidden[-1], len(schema.tasks), generator)
        )
        self.bias = nn.Parameter(torch.zeros(len(schema.tasks)))
        self.router: nn.Module | None = None

    def tower_input(self) -> int:
        """Width of the tower's input; by default the concatenated embeddings and dense features."""
        return len(self.schema.fields) * self.settings.embedding_dim + len(self.schema.dense)

    @abstractmethod
    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        """The model's equation: logits (B, T) before the bias; `deep` is the routed tower."""

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        """Logits (B, T).

        Args:
            fields: codes (B, F).
            dense: dense features (B, K).
            domain: domain ids (B,).
            routing: replaces the router's (phase 2 sends a row to the expert that is trained).
        """
        if routing is None and self.router is not None:
            routing = self.router(domain)
        return self.logits(fields, dense, partial(self.tower, routing=routing)) + self.bias

    def penalised(self) -> list[nn.Parameter]:
        """The parameters under the L2 penalty: embeddings and linear weights."""
        modules = (m for m in self.modules() if isinstance(m, FusedEmbedding | LinearPart))
        return list({id(p): p for m in modules for p in m.parameters()}.values())

    def concatenated(self, fields: Tensor, dense: Tensor) -> Tensor:
        """x_0: embeddings of all fields side by side, then dense features, (B, F d + K)."""
        return torch.cat([self.embedding(fields).flatten(1), dense], 1)


class LinearPart(nn.Module):
    """The wide part: one weight per code and per dense feature, zero at the start."""

    def __init__(self, schema: Schema, generator: torch.Generator) -> None:
        super().__init__()
        tasks = len(schema.tasks)
        self.weights = FusedEmbedding(schema.sizes, tasks, 0.0, generator)
        self.dense = nn.Parameter(torch.zeros(len(schema.dense), tasks))

    def forward(self, fields: Tensor, dense: Tensor) -> Tensor:
        """Map fields (B, F) and dense (B, K) to (B, T)."""
        wide: Tensor = self.weights(fields).sum(1) + dense @ self.dense
        return wide
