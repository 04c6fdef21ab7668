"""One table for all fields."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class FusedEmbedding(nn.Module):
    """Embeddings of F fields in one table, each field at its own offset.

    A pooled field's embedding is the mean over its ids: zero where it has none.

    Args:
        sizes: number of codes of each field.
        dim: embedding width d.
        std: standard deviation of the normal init; 0 gives zeros (the linear part).
        generator: random stream of the init.
        pretrained: tables (size, d) of some fields by number; they are not trained.
        widths: columns of codes of each field, as `Schema.widths`.
    """

    offsets: Tensor
    frozen: Tensor
    sparse = False
    """Whether the gradient of the table holds only the rows that a batch has."""

    def __init__(
        self,
        sizes: Sequence[int],
        dim: int,
        std: float,
        generator: torch.Generator,
        pretrained: Mapping[int, Tensor] | None = None,
        widths: Sequence[int] = (),
    ) -> None:
        super().__init__()
        pretrained = pretrained or {}
        columns = widths or (1,) * len(sizes)
        self.widths = [width for width in columns if width > 1]
        # fields with a table of their own come last, each kind at offsets of its own
        kinds = [j for j in range(len(sizes)) if j not in pretrained], sorted(pretrained)
        starts = [0] * len(sizes)
        for kind in kinds:
            total = 0
            for j in kind:
                starts[j] = total
                total += sizes[j]
        field = [j for j, width in enumerate(columns) for _ in range(width)]
        self.trained_columns = [c for c, j in enumerate(field) if j not in pretrained]
        self.frozen_columns = [c for c, j in enumerate(field) if j in pretrained]
        self.register_buffer("offsets", torch.tensor([starts[j] for j in field]), persistent=False)
        trained = sum(sizes[j] for j in kinds[0])
        self.weight = nn.Parameter(std * torch.randn(trained, dim, generator=generator))
        tables = [pretrained[j] for j in kinds[1]]
        table = torch.cat(tables) if tables else torch.empty(0, dim)
        self.register_buffer("frozen", table, persistent=False)

    def forward(self, fields: Tensor) -> Tensor:
        """Codes (B, C) to embeddings (B, F, d)."""
        codes = fields + self.offsets
        if not self.frozen_columns:
            return self.by_field(self._trained(codes), fields)
        embedded = self.frozen.new_empty(*fields.shape, self.weight.shape[1])
        embedded[:, self.frozen_columns] = self.frozen[codes[:, self.frozen_columns]]
        embedded[:, self.trained_columns] = self._trained(codes[:, self.trained_columns])
        return self.by_field(embedded, fields)

    def _trained(self, codes: Tensor) -> Tensor:
        """Rows (..., d) of the trained table."""
        if self.sparse:
            return functional.embedding(codes, self.weight, sparse=True)
        return looked_up(self.weight, codes)

    def by_field(self, embedded: Tensor, fields: Tensor) -> Tensor:
        """Embeddings (B, F, d) of the fields from those of the codes (B, C, d)."""
        if not self.widths:
            return embedded
        single = fields.shape[1] - sum(self.widths)
        parts = [embedded[:, :single]]
        of_pooled = torch.split(embedded[:, single:], self.widths, 1)
        codes = torch.split(fields[:, single:], self.widths, 1)
        for ids, own in zip(of_pooled, codes, strict=True):
            there = (own != 0).to(ids.dtype).unsqueeze(2)
            number = there.sum(1, keepdim=True).clamp(min=1)
            parts.append((ids * there).sum(1, keepdim=True) / number)
        return torch.cat(parts, 1)


def looked_up(table: Tensor, codes: Tensor) -> Tensor:
    """Rows (..., d) of a table (V, d)."""
    # as torch's embedding, whose gradient takes 2 (wide) to 20 times (width 1) as long on a CPU
    return table.index_select(0, codes.flatten()).view(*codes.shape, -1)


def have_sparse_gradients(model: nn.Module, sparse: bool) -> None:
    """Say whether the gradients of a model's tables are to hold only the rows that a batch has."""
    for module in model.modules():
        if isinstance(module, FusedEmbedding):
            module.sparse = sparse
