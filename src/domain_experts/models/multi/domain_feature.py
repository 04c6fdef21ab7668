"""Domain as a feature (this study): one network for all domains, which sees an embedding of each.

    logit_{d,t} = v_t' layers([x, e_d]) + c_t

Where the domain is a field of the data set as well, x knows it already.
"""

import torch
from torch import Tensor, nn

from domain_experts.models.multi.base import EMBEDDING_STD, MultiContext
from domain_experts.models.multi.rows import of_rows
from domain_experts.models.multi.shared_head import SharedHead


class Model(SharedHead):
    """One network that is told the domain; the embedding is as wide as a field's."""

    def __init__(self, context: MultiContext) -> None:
        dim = context.settings.embedding_dim
        super().__init__(context, extra=dim)
        self.e = nn.Parameter(
            EMBEDDING_STD
            * torch.randn(len(context.schema.domains), dim, generator=context.generator)
        )

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        return self.logits(torch.cat([x, of_rows(self.e, counts)], 1))
