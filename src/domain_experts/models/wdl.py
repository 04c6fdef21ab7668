"""Wide&Deep (Cheng et al. 2016): logit = linear(x) + w' tower([e_1, ..., e_F])."""

from torch import Tensor

from domain_experts.models.ctr import CTRContext, CTRModel, Deep, LinearPart


class Model(CTRModel):
    """The linear part on all ids beside the deep tower."""

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        self.linear = LinearPart(context)

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        wide: Tensor = self.linear(fields, dense)
        return wide + deep(self.concatenated(self.embedding(fields), dense)) @ self.head
