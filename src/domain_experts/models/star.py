"""STAR (Sheng et al. 2021): shared weights and weights of each domain, multiplied.

`Star` is the whole model, beside the click models; `Model` is what M3oE compares with.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from domain_experts.models.adapter import Routing
from domain_experts.models.ctr import ClickModel, CTRContext, field_embedding
from domain_experts.models.embedding import FusedEmbedding
from domain_experts.models.groups import group
from domain_experts.models.init import glorot
from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Layer, Towers, bottom_widths

# the released configurations: Keras' momentum 0.99 and epsilon
MOMENTUM = 0.01
EPSILON = 1e-3
# Keras' default for dense layers
INIT = "glorot_uniform"


class PartitionedNorm(nn.Module):
    """z = gamma gamma_d (x - mu_d) / sqrt(var_d + eps) + beta + beta_d.

    In training, mu_d and var_d are the moments of the batch's rows of domain d, and its moving
    moments follow them. A domain with fewer than two rows in the batch has no variance: it takes
    its moving moments, as in evaluation, and leaves them as they are.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, domains: int, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))
        self.domain_gamma = nn.Parameter(torch.ones(domains, width))
        self.domain_beta = nn.Parameter(torch.zeros(domains, width))
        self.register_buffer("mean", torch.zeros(domains, width))
        self.register_buffer("var", torch.ones(domains, width))

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        """Normalise x (B, width) of the domains (B,)."""
        mean, var = self._moments(x, domain) if self.training else (self.mean, self.var)
        scale = self.gamma * self.domain_gamma * torch.rsqrt(var + EPSILON)
        shift = self.beta + self.domain_beta
        return (x - mean[domain]) * scale[domain] + shift[domain]

    def _moments(self, x: Tensor, domain: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (D, width) of every domain; moves the moving ones towards them."""
        rows = nn.functional.one_hot(domain, len(self.mean)).to(x.dtype)
        count = rows.sum(0).unsqueeze(1)
        share = rows.T / count.clamp(min=1)
        mean = torch.where(count > 1, share @ x, self.mean)
        var = torch.where(count > 1, share @ (x - mean[domain]).square(), self.var)
        with torch.no_grad():
            self.mean.lerp_(mean, MOMENTUM)
            self.var.lerp_(var, MOMENTUM)
        return mean, var


class StarLinear(nn.Module):
    """y = x (W * W_d) + b + b_d of a row of domain d.

    Each W_d and b_d is a parameter of its own, so that the optimiser skips absent domains.
    """

    def __init__(self, domains: int, d_in: int, d_out: int, generator: torch.Generator) -> None:
        super().__init__()
        kernels = [glorot(INIT, d_in, d_out, generator) for _ in range(domains + 1)]
        self.weight = nn.Parameter(kernels[0])
        self.bias = nn.Parameter(torch.zeros(d_out))
        self.weights = nn.ParameterList(map(nn.Parameter, kernels[1:]))
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(d_out)) for _ in range(domains))

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """Map x (B, d_in) to (B, d_out); `counts[d]` rows stand together for domain d."""
        parts = zip(torch.split(x, counts), self.weights, self.biases, strict=True)
        return torch.cat(
            [torch.addmm(self.bias + b, rows, self.weight * w) for rows, w, b in parts if len(rows)]
        )


class Star(ClickModel):
    """logit = w' star(norm([e_1, ..., e_F])), star being ReLU layers of the star topology.

    With `auxiliary` the logit of a small network on a domain embedding and the same features is
    added, as in the paper. There is no dropout.
    """

    def __init__(self, context: CTRContext, auxiliary: bool) -> None:
        schema, settings, generator = context.schema, context.settings, context.generator
        super().__init__(schema, dropout=0.0)
        domains, tasks = len(schema.domains), len(schema.tasks)
        self.bias = nn.Parameter(torch.zeros(tasks))
        self.embedding = field_embedding(context)
        width = len(schema.fields) * settings.embedding_dim + len(schema.dense)
        self.norm = PartitionedNorm(domains, width)
        self.layers = nn.ModuleList(
            StarLinear(domains, i, o, generator) for i, o in pairwise([width, *settings.hidden])
        )
        self.head = nn.Parameter(glorot(INIT, settings.hidden[-1], tasks, generator))
        self.auxiliary = Auxiliary(context, width) if auxiliary else None

    def dropped(self) -> list[nn.Parameter]:
        return []

    def forward(
        self, fields: Tensor, dense: Tensor, domain: Tensor, routing: Routing = None
    ) -> Tensor:
        x = torch.cat([self.embedding(fields).flatten(1), dense], 1)
        groups = group(domain, len(self.schema.domains))
        hidden = self.norm(x, domain)[groups.order]
        for layer in self.layers:
            hidden = torch.relu(layer(hidden, groups.counts))
        logits = groups.back(hidden @ self.head + self.bias)
        return logits if self.auxiliary is None else logits + self.auxiliary(x, domain)


class Auxiliary(nn.Module):
    """logit = w' ReLU(W_1' [x, embedding of the domain] + b_1).

    The hidden layer is as wide as the last one of STAR.
    """

    def __init__(self, context: CTRContext, width: int) -> None:
        super().__init__()
        settings, generator = context.settings, context.generator
        domains, dim = len(context.schema.domains), settings.embedding_dim
        hidden = settings.hidden[-1]
        self.embedding = FusedEmbedding([domains], dim, context.embedding_std, generator)
        self.W_1 = nn.Parameter(glorot(INIT, width + dim, hidden, generator))
        self.b_1 = nn.Parameter(torch.zeros(hidden))
        self.W_2 = nn.Parameter(glorot(INIT, hidden, len(context.schema.tasks), generator))

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        """Map x (B, width) of the domains (B,) to (B, T)."""
        x = torch.cat([x, self.embedding(domain.unsqueeze(1)).flatten(1)], 1)
        return torch.relu(x @ self.W_1 + self.b_1) @ self.W_2


class Model(MultiModel):
    """STAR as M3oE compares it: M3oE's bottom layer under one layer for all.

        h           = layer(f_DR(x)) + layer(x),  f_DR(x) = x (W_d * W) + b_d + b
        logit_{d,t} = tower_{d,t}(layer(h))

    There is no partitioned norm and no auxiliary network.
    """

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        bottom, width, last = bottom_widths(context.settings.hidden)
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        generator = context.generator
        self.representation = StarLinear(domains, self.width, bottom, generator)
        self.conversion = Layer(1, bottom, width, generator)
        self.adaptation = Layer(1, self.width, width, generator)
        self.layer = Layer(1, width, last, generator)
        self.towers = Towers(domains, tasks, last, last, generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = self.conversion(self.representation(x, counts)) + self.adaptation(x)
        h = self.layer(h.squeeze(1)).expand(-1, len(self.schema.tasks), -1)
        logits: Tensor = self.towers(h, counts)
        return logits
