"""M2M (Zhang et al. 2022, arXiv 2201.06814): weights that a scenario's vector generates.

    F      = [encoder(e_1, ..., e_F), dense]
    E_i    = layer_i(F),  T_t = layer(task t),  S_d = layer(scenario d)      (views)
    Meta_d : h^(j) = LeakyReLU(h^(j-1) W_d + b_d),  [W_d, b_d] = S_d V + v   (meta unit)
    R_t    = sum_i softmax_i(v' Meta_d([E_i, T_t])) E_i                      (meta attention)
    L_t    = LeakyReLU(Meta_d(L_t) + L_t) again and again, from L_t = R_t    (meta tower)
    logit  = w_t' L_t + c_t

The paper's encoder reads an advertiser's sequences, and its scenario vector the advertiser's
profile too. Here a row's fields take the place of the sequences; the scenario's embedding stands
alone, so that weights are generated once a domain. The Poisson loss becomes the cross entropy.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.multi.base import EMBEDDING_STD, MultiContext, MultiModel
from domain_experts.models.multi.blocks import Experts, Layer, by_domain, uniform


class EncoderLayer(nn.Module):
    """A Transformer's encoder layer over the fields of one row (Vaswani et al. 2017).

    z = LN(x + [head_1, ..., head_H] W_O + b_O), head = softmax(Q K' / sqrt(d / H)) V,
    y = LN(z + ReLU(z W_1 + b_1) W_2 + b_2).
    """

    def __init__(self, dim: int, heads: int, inner: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.W_QKV = uniform(generator, dim, dim, 3 * dim)
        self.b_QKV = uniform(generator, dim, 3 * dim)
        self.W_O = uniform(generator, dim, dim, dim)
        self.b_O = uniform(generator, dim, dim)
        self.W_1 = uniform(generator, dim, dim, inner)
        self.b_1 = uniform(generator, dim, inner)
        self.W_2 = uniform(generator, inner, inner, dim)
        self.b_2 = uniform(generator, inner, dim)
        self.norm_1 = nn.LayerNorm(dim)
        self.norm_2 = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, F, d) to (B, F, d)."""
        parts = (x @ self.W_QKV + self.b_QKV).view(*x.shape[:2], 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        heads = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        z = self.norm_1(x + heads @ self.W_O + self.b_O)
        inner = torch.relu(z @ self.W_1 + self.b_1)
        y: Tensor = self.norm_2(z + inner @ self.W_2 + self.b_2)
        return y


class MetaUnit(nn.Module):
    """Layers h W_d + b_d under LeakyReLU, whose weights are made of the scenario's vector S_d.

    [W_d; b_d] = S_d V + v. At the start the part of v is that of a linear layer, and the part of
    S_d V about as large.
    """

    def __init__(self, scenario: int, width: int, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.width = width
        size = (width + 1) * width
        self.V = nn.ParameterList(
            uniform(generator, scenario * width, scenario, size) for _ in range(layers)
        )
        self.v = nn.ParameterList(uniform(generator, width, size) for _ in range(layers))

    def forward(self, h: Tensor, S: Tensor, counts: list[int]) -> Tensor:
        """Map h (B, ..., width) to the same shape.

        Args:
            h: rows, sorted by domain.
            S: vectors (D, scenario) of the domains.
            counts: rows of each domain.
        """
        shape = (-1, self.width + 1, self.width)
        made = [
            torch.addmm(v, S, V).view(shape).unbind() for V, v in zip(self.V, self.v, strict=True)
        ]
        out = []
        for d, rows in by_domain(h, counts):
            hidden = rows
            for weights in made:
                W, b = weights[d][:-1], weights[d][-1]
                hidden = functional.leaky_relu(hidden @ W + b)
            out.append(hidden)
        return torch.cat(out)


class Model(MultiModel):
    """M2M; the meta units serve all tasks, and a task has its own view and output weights."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.m2m, context.generator
        dim, width = context.settings.embedding_dim, context.settings.hidden[-1]
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.fields = (len(context.schema.fields), dim)
        self.encoder = nn.Sequential(
            *(
                EncoderLayer(dim, own.heads, own.feedforward, generator)
                for _ in range(own.encoder_layers)
            )
        )
        self.expert_views = Experts(own.experts, (self.width, width), generator)
        self.tasks = nn.Parameter(EMBEDDING_STD * torch.randn(tasks, dim, generator=generator))
        self.task_view = Layer(1, dim, width, generator)
        self.scenarios = nn.Parameter(
            EMBEDDING_STD * torch.randn(domains, dim, generator=generator)
        )
        self.scenario_view = Layer(1, dim, own.scenario_dim, generator)
        self.attention = MetaUnit(own.scenario_dim, 2 * width, own.unit_layers, generator)
        self.v = uniform(generator, 2 * width, 2 * width)
        self.tower = nn.ModuleList(
            MetaUnit(own.scenario_dim, width, own.unit_layers, generator)
            for _ in range(own.tower_layers)
        )
        self.w = uniform(generator, width, tasks, width)
        self.c = uniform(generator, width, tasks)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        S = self.scenario_view(self.scenarios).squeeze(1)
        L = self.attended(x, S, counts)
        for unit in self.tower:
            L = functional.leaky_relu(unit(L, S, counts) + L)
        return (L * self.w).sum(2) + self.c

    def attended(self, x: Tensor, S: Tensor, counts: list[int]) -> Tensor:
        """R (B, T, width): the experts of x (B, I), weighed for each task."""
        fields, dim = self.fields
        e, dense = torch.split(x, [fields * dim, x.shape[1] - fields * dim], 1)
        encoded = self.encoder(e.reshape(-1, fields, dim)).flatten(1)
        E = self.expert_views(torch.cat([encoded, dense], 1))
        T = self.task_view(self.tasks)
        pairs = [
            E.unsqueeze(1).expand(-1, len(T), -1, -1),
            T.unsqueeze(0).expand(len(E), -1, E.shape[1], -1),
        ]
        scores = self.attention(torch.cat(pairs, 3), S, counts) @ self.v
        return torch.bmm(scores.softmax(2), E)
