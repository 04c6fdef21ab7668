"""Field-aware factorisation machine (Juan et al. 2016)."""

from torch import Tensor

from domain_experts.models.adapter import Routing
from domain_experts.models.ctr import CTRContext
from domain_experts.models.embedding import FusedEmbedding
from domain_experts.models.interactions import pairs as pairs_of
from domain_experts.models.linear import LogisticRegression


class FieldAwareFM(LogisticRegression):
    """logit = linear(x) + sum_{i<j} <e_{i,j}, e_{j,i}> + b (equation 4, with linear terms).

    e_{i,j} is what the code of field i has for field j: F - 1 embeddings of width d a code. A code
    with a pretrained vector has this one for every other field. All tasks share the pairs.
    """

    left: Tensor
    right: Tensor

    def __init__(self, context: CTRContext) -> None:
        super().__init__(context)
        names = [name for name, _ in context.schema.fields]
        self.others, self.width = len(names) - 1, context.settings.embedding_dim
        self.embedding = FusedEmbedding(
            context.schema.sizes,
            self.others * self.width,
            context.embedding_std,
            context.generator,
            {names.index(name): v.repeat(1, self.others) for name, v in context.vectors.items()},
            context.schema.widths,
        )
        i, j = pairs_of(len(names))
        # of field i's embeddings that for j > i is number j - 1: there is none for i itself
        self.register_buffer("left", i * self.others + j - 1, persistent=False)
        self.register_buffer("right", j * self.others + i, persistent=False)

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        e = self.embedding(fields).unflatten(2, (self.others, self.width)).flatten(1, 2)
        products = e.index_select(1, self.left) * e.index_select(1, self.right)
        pairs: Tensor = products.sum((1, 2)).unsqueeze(1)
        return super().forward(fields, dense, domain) + pairs
