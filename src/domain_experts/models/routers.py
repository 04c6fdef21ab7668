"""Routers: from domain ids (B,) and the tower's input (B, d_0) to the experts of each row."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import ByDomain, Hard, Owned, Soft
from domain_experts.models.dropout import KeyedDropout
from domain_experts.models.groups import Groups, group
from domain_experts.models.init import glorot

MANY = 64
"""Experts from which on a gate that goes by the domain gives its table, for products by domain.

With few, a row's own products are as fast, and sum in the order that they always did.
"""


class OneHot(nn.Module):
    """One expert a domain: `expert[d]` for the rows of domain d (MLoRA: d)."""

    expert: Tensor

    def __init__(self, expert: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("expert", torch.tensor(expert), persistent=False)
        self.experts = tuple(range(max(expert) + 1))

    def forward(self, domain: Tensor, x: Tensor) -> Hard:
        """Group the batch by expert."""
        order, counts = self.groups(domain)
        return Hard(self.experts, tuple(counts), order)

    def groups(self, domain: Tensor) -> Groups:
        """The batch's rows by expert."""
        return group(self.expert[domain], len(self.experts))


class Gate(nn.Module):
    """g = softmax(z / temperature) over the k largest logits z = u V + v of each row.

    u (B, m) is an embedding of the domain id (moe_mlora: gate), so that g is a table of domains x
    experts; with `features` also the tower's input, without gradient into it. With `layers` > 1
    every layer of the tower has weights of its own.

    With `noise`, whose streams are those of the training step, training adds noise to the logits:
    z + n softplus(u N), n standard normal and N zero at the start (Shazeer et al. 2017, arXiv
    1701.06538, equation 4). Evaluation never does.

    `own` (D, E), if it is set, says which experts the training rows of each domain may change.
    """

    own: Tensor | None

    def __init__(
        self,
        domains: int,
        experts: int,
        dim: int,
        generator: torch.Generator,
        features: int = 0,
        layers: int = 1,
        top_k: int | None = None,
        temperature: float = 1.0,
        load_balance: float = 0.0,
        variance: float = 0.0,
        noise: KeyedDropout | None = None,
    ) -> None:
        super().__init__()
        # Keras' default for embeddings
        embedding = torch.empty(domains, dim).uniform_(-0.05, 0.05, generator=generator)
        self.embedding = nn.Parameter(embedding)
        init = [glorot("glorot_uniform", dim + features, experts, generator) for _ in range(layers)]
        self.V = nn.Parameter(torch.cat(init, 1))
        self.v = nn.Parameter(torch.zeros(layers * experts))
        self.experts, self.layers = experts, layers
        self.features, self.top_k, self.temperature = features > 0, top_k, temperature
        self.load_balance, self.variance = load_balance, variance
        self.noise = noise
        if noise is not None:
            self.N = nn.Parameter(torch.zeros_like(self.V))
        self.register_buffer("own", None)
        self._weights: Tensor | None = None

    def forward(self, domain: Tensor, x: Tensor) -> Soft | tuple[Soft, ...]:
        """Weights (B, E) for all layers, or a tuple with one a layer."""
        table: Tensor | None = None
        if self.noise is not None and self.training:
            u = self.embedding[domain]
            weights = self._softmax(torch.cat([u, x], 1) if self.features else u, self.noise)
        elif self.features:
            weights = self._softmax(torch.cat([self.embedding[domain], x], 1))
        else:
            table = self._softmax(self.embedding)
            weights = table[:, domain]
        self._weights = weights
        if self.own is not None and self.training:
            own = self.own[domain]
            owned = tuple(Owned(g, own) for g in weights)
            return owned[0] if self.layers == 1 else owned
        if table is not None and self.experts >= MANY:
            by_domain = tuple(ByDomain(own, domain) for own in table)
            return by_domain[0] if self.layers == 1 else by_domain
        return weights[0] if self.layers == 1 else tuple(weights)

    def table(self) -> Tensor | None:
        """Weights of every domain (D, E), the mean of the layers' own; rows sum to 1.

        None if they depend on the features too.
        """
        return None if self.features else self._softmax(self.embedding).mean(0)

    def auxiliary(self) -> list[Tensor]:
        """The terms that the last batch adds to the loss."""
        return [term for term in (self.balance(), self.spread()) if term is not None]

    def balance(self) -> Tensor | None:
        """load_balance E sum_e f_e p_e of the last batch, the mean of the layers' own.

        f_e is the share of rows whose largest weight is that of e, p_e the mean weight of e
        (Fedus et al. 2022, equation 4).
        """
        if not self.load_balance or self._weights is None:
            return None
        chosen = nn.functional.one_hot(self._weights.argmax(2), self.experts)
        shares = chosen.to(self._weights.dtype).mean(1)
        return self.load_balance * self.experts * (shares * self._weights.mean(1)).sum(1).mean()

    def spread(self) -> Tensor | None:
        """-variance / (B E) sum_b,e (g_be - mean_b g_be)^2, the mean of the layers' own.

        It rewards weights that differ between rows (Guo et al. 2025, arXiv 2505.22323, equations 6
        and 7, there summed over rows: the mean keeps its scale whatever the batch).
        """
        if not self.variance or self._weights is None:
            return None
        return -self.variance * self._weights.var(1, correction=0).mean()

    def _softmax(self, u: Tensor, noise: KeyedDropout | None = None) -> Tensor:
        """Weights (L, B, E) of the rows u (B, m)."""
        z = torch.addmm(self.v, u, self.V)
        if noise is not None:
            drawn = noise.normal(z.shape[1]).to(z)
            z = z + drawn * nn.functional.softplus(u @ self.N)
        z = z.view(len(u), self.layers, self.experts).transpose(0, 1) / self.temperature
        if self.top_k is not None:
            least = z.topk(self.top_k, 2).values[..., -1:]
            z = z.masked_fill(z < least, -torch.inf)
        return torch.softmax(z, 2)


class UniformGate(nn.Module):
    """Constant g = 1 / E: what the released MoE-MLoRA code in effect computes."""

    def __init__(self, domains: int, experts: int) -> None:
        super().__init__()
        self.domains = domains
        self.experts = experts

    def table(self) -> Tensor:
        """Weights of every domain, (D, E)."""
        return torch.full((self.domains, self.experts), 1 / self.experts)

    def forward(self, domain: Tensor, x: Tensor) -> Tensor:
        """Weights (B, E)."""
        return x.new_full((), 1 / self.experts).expand(len(domain), self.experts)
