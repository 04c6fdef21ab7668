"""NFM (He and Chua 2017): logit = linear(x) + w' tower(sum_{i<j} e_i * e_j)."""

from torch import Tensor

from domain_experts.models.ctr import CTRContext, CTRModel, Deep, LinearPart, beside
from domain_experts.models.interactions import bi_interaction


class Model(CTRModel):
    """The tower on the bi-interaction of all fields, with the dense features beside it."""

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        self.linear = LinearPart(context)

    def tower_input(self) -> int:
        return self.settings.embedding_dim + len(self.schema.dense)

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        pooled = bi_interaction(self.embedding(fields))
        wide: Tensor = self.linear(fields, dense)
        return wide + deep(beside(pooled, dense)) @ self.head
