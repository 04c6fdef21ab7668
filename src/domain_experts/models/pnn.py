"""IPNN (Qu et al. 2016): logit = w' tower([e_1, ..., e_F, <e_1, e_2>, ..., <e_{F-1}, e_F>])."""

import torch
from torch import Tensor

from domain_experts.models.ctr import CTRContext, CTRModel, Deep
from domain_experts.models.interactions import pairs


class Model(CTRModel):
    """The tower on the embeddings and their inner products, with the dense features beside them."""

    pairs: Tensor

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        fields = len(context.schema.fields)
        left, right = pairs(fields)
        self.register_buffer("pairs", fields * left + right, persistent=False)

    def tower_input(self) -> int:
        fields = len(self.schema.fields)
        return super().tower_input() + fields * (fields - 1) // 2

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        e = self.embedding(fields)
        # of all F^2 products, which takes less than to gather the pairs
        products = torch.bmm(e, e.transpose(1, 2)).flatten(1).index_select(1, self.pairs)
        return deep(torch.cat([e.flatten(1), products, dense], 1)) @ self.head
