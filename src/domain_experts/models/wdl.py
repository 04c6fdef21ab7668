"""Wide&Deep (Cheng et al. 2016): logit = linear(x) + w' tower([e_1, ..., e_F])."""

import torch
from torch import Tensor

from domain_experts.models.ctr import CTRModel, Deep, LinearPart
from domain_experts.schema import Schema
from domain_experts.settings import ModelSettings


class Model(CTRModel):
    """The linear part on all ids beside the deep tower."""

    def __init__(
        self, schema: Schema, settings: ModelSettings, tower_init: str, generator: torch.Generator
    ) -> None:
        super().__init__(schema, settings, tower_init, generator)
        self.linear = LinearPart(schema, generator)

    def logits(self, fields: Tensor, dense: Tensor, deep: Deep) -> Tensor:
        wide: Tensor = self.linear(fields, dense)
        return wide + deep(self.concatenated(fields, dense)) @ self.head
