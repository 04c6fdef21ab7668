"""Models without a tower: logistic regression and factorisation machine on all fields."""

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Routing
from domain_experts.models.ctr import ClickModel, LinearPart, Plan, field_embedding
from domain_experts.models.interactions import bi_interaction


class LogisticRegression(ClickModel):
    """logit = linear(x) + b."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan.schema, dropout=0.0)
        self.bias = nn.Parameter(torch.zeros(len(plan.schema.tasks)))
        self.linear = LinearPart(plan)

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        wide: Tensor = self.linear(fields, dense)
        return wide + self.bias


class FactorisationMachine(LogisticRegression):
    """logit = linear(x) + sum_{i<j} <e_i, e_j> + b (Rendle 2010); all tasks share the pairs."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.embedding = field_embedding(plan)

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        pairs = bi_interaction(self.embedding(fields)).sum(1, keepdim=True)
        return super().forward(fields, dense, domain) + pairs
