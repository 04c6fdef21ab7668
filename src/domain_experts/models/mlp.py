"""MLP: logit = w' tower([e_1, ..., e_F])."""

from torch import Tensor

from domain_experts.models.ctr import CTRModel, Deep


class Model(CTRModel):
    """The deep tower alone."""

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        return deep(self.concatenated(self.embedding(fields), dense)) @ self.head
