"""PLATE (Wang et al. 2023): a network for all domains, then prompts to it for domain and user.

    logit_{d,t} = v_t' layers([p_d, q, x]) + c_t
    q           = sum_k softmax_k((MLP(e_user) W + b) / temperature) m_k      (user's prompt)

p and m start at random and stay so while all else is trained; then they and MLP are trained, and
all else stays. At 0 they could not start: the network's weights for them would see nothing but the
L2 penalty, and end at 0 too. This follows the authors' demonstration code. There the backbone is a
DeepFM, whose linear part it may tune too, m are drawn again before they are tuned, and the
temperature is 1e-5, which leaves next to no gradient.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from domain_experts.errors import UserError
from domain_experts.models.multi.base import MultiContext
from domain_experts.models.multi.blocks import Layer, uniform
from domain_experts.models.multi.rows import of_rows
from domain_experts.models.multi.shared_head import SharedHead

VECTORS = 0.01
"""Largest number in a vector of users' prompts at the start, as in the authors' code."""


def spread(bound: float, shape: tuple[int, int], generator: torch.Generator) -> nn.Parameter:
    """Weights from U(-bound, bound)."""
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


class UserPrompt(nn.Module):
    """A mean of K vectors, by what a network makes of the user."""

    def __init__(
        self,
        dim: int,
        hidden: tuple[int, ...],
        count: int,
        temperature: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.network = nn.ModuleList(Layer(1, i, o, generator) for i, o in pairwise((dim, *hidden)))
        self.W = uniform(generator, hidden[-1], hidden[-1], count)
        self.b = uniform(generator, hidden[-1], count)
        self.m = spread(VECTORS, (count, dim), generator)

    def forward(self, e: Tensor) -> Tensor:
        """Map e (B, d) to (B, d)."""
        for layer in self.network:
            e = layer(e).squeeze(1)
        weights = ((e @ self.W + self.b) / self.temperature).softmax(1)
        return weights @ self.m


class Model(SharedHead):
    """PLATE; its prompts are as wide as a field's embedding.

    Raises:
        UserError: the data set has no field `user`.
    """

    def __init__(self, context: MultiContext) -> None:
        own, dim = context.settings.plate, context.settings.embedding_dim
        names = [name for name, _ in context.schema.fields]
        if "user" not in names:
            raise UserError(
                "PLATE's prompts need the field 'user', and the data set has "
                f"{', '.join(names)}; leave plate out under `experiments` in params.yaml"
            )
        super().__init__(context, extra=2 * dim)
        self.user = slice(names.index("user") * dim, (names.index("user") + 1) * dim)
        domains = len(context.schema.domains)
        bound = math.sqrt(6 / (domains + dim))
        self.of_domain = spread(bound, (domains, dim), context.generator)
        self.of_user = UserPrompt(dim, own.hidden, own.vectors, own.temperature, context.generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        q = self.of_user(x[:, self.user])
        return self.logits(torch.cat([of_rows(self.of_domain, counts), q, x], 1))

    def legs(self) -> dict[str, dict[str, nn.Parameter]]:
        prompts = {n: p for n, p in self.named_parameters() if n.split(".")[0].startswith("of_")}
        rest = {n: p for n, p in self.named_parameters() if n not in prompts}
        return {"joint": rest, "prompts": prompts}
