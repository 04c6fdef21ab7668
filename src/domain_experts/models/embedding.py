"""One table for all fields."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class FusedEmbedding(nn.Module):
    """Embeddings of F fields in one table, each field at its own offset.

    Args:
        sizes: number of codes of each field.
        dim: embedding width d.
        std: standard deviation of the normal init; 0 gives zeros (the linear part).
        generator: random stream of the init.
        pretrained: tables (size, d) of some fields by number; they are not trained.
    """

    offsets: Tensor
    frozen: Tensor

    def __init__(
        self,
        sizes: Sequence[int],
        dim: int,
        std: float,
        generator: torch.Generator,
        pretrained: Mapping[int, Tensor] | None = None,
    ) -> None:
        super().__init__()
        pretrained = pretrained or {}
        # fields with a table of their own come last, each kind at offsets of its own
        self.trained_fields = [j for j in range(len(sizes)) if j not in pretrained]
        self.frozen_fields = sorted(pretrained)
        starts = [0] * len(sizes)
        for kind in (self.trained_fields, self.frozen_fields):
            total = 0
            for j in kind:
                starts[j] = total
                total += sizes[j]
        self.register_buffer("offsets", torch.tensor(starts), persistent=False)
        trained = sum(sizes[j] for j in self.trained_fields)
        self.weight = nn.Parameter(std * torch.randn(trained, dim, generator=generator))
        tables = [pretrained[j] for j in self.frozen_fields]
        table = torch.cat(tables) if tables else torch.empty(0, dim)
        self.register_buffer("frozen", table, persistent=False)

    def forward(self, fields: Tensor) -> Tensor:
        """Codes (B, F) to embeddings (B, F, d)."""
        codes = fields + self.offsets
        if not self.frozen_fields:
            return looked_up(self.weight, codes)
        embedded = self.frozen.new_empty(*fields.shape, self.weight.shape[1])
        embedded[:, self.frozen_fields] = self.frozen[codes[:, self.frozen_fields]]
        embedded[:, self.trained_fields] = looked_up(self.weight, codes[:, self.trained_fields])
        return embedded


def looked_up(table: Tensor, codes: Tensor) -> Tensor:
    """Rows (..., d) of a table (V, d)."""
    # as torch's embedding, whose gradient takes 2 (wide) to 20 times (width 1) as long on a CPU
    return table.index_select(0, codes.flatten()).view(*codes.shape, -1)
