"""Models without a tower: logistic regression and factorisation machine on all fields."""

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Routing
from domain_experts.models.ctr import ClickModel, CTRContext, LinearPart, field_embedding
from domain_experts.models.interactions import bi_interaction


class LogisticRegression(ClickModel):
    """logit = linear(x) + b."""

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context.schema, dropout=0.0)
        self.bias = nn.Parameter(torch.zeros(len(context.schema.tasks)))
        self.linear = LinearPart(context)

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        wide: Tensor = self.linear(fields, dense)
        return wide + self.bias


class FactorisationMachine(LogisticRegression):
    """logit = linear(x) + sum_{i<j} <e_i, e_j> + b (Rendle 2010); all tasks share the pairs."""

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        self.embedding = field_embedding(context)

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        pairs = bi_interaction(self.embedding(fields)).sum(1, keepdim=True)
        return super().forward(fields, dense, domain) + pairs
