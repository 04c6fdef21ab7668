"""One table for all fields."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class FusedEmbedding(nn.Module):
    """Embeddings of F fields in one table, each field at its own offset.

    Args:
        sizes: number of codes of each field.
        dim: embedding width d.
        std: standard deviation of the normal init; 0 gives zeros (the linear part).
        generator: random stream of the init.
    """

    offsets: Tensor

    def __init__(
        self, sizes: Sequence[int], dim: int, std: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        offsets = torch.tensor([0, *sizes[:-1]]).cumsum(0)
        self.register_buffer("offsets", offsets, persistent=False)
        self.weight = nn.Parameter(std * torch.randn(sum(sizes), dim, generator=generator))

    def forward(self, fields: Tensor) -> Tensor:
        """Codes (B, F) to embeddings (B, F, d)."""
        return nn.functional.embedding(fields + self.offsets, self.weight)
