"""DeepFM (Guo et al. 2017): logit = linear(x) + sum_{i<j} <e_i, e_j> + w' tower(e)."""

from torch import Tensor

from domain_experts.models.ctr import CTRContext, CTRModel, Deep, LinearPart
from domain_experts.models.interactions import bi_interaction


class Model(CTRModel):
    """A factorisation machine beside the deep tower; every task gets the same pairwise term."""

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        self.linear = LinearPart(context)

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        e = self.embedding(fields)
        fm = bi_interaction(e).sum(1, keepdim=True)
        wide: Tensor = self.linear(fields, dense)
        return wide + fm + deep(self.concatenated(e, dense)) @ self.head
