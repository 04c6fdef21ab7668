"""HierRec (Gao et al. 2023, arXiv 2309.02061): weights made of the scenario, then of the row.

    h        = layer(x)
    u        = dynamic(h; e_d)                                         (explicit scenario)
    a_{d,k}  = softmax_f(e_d^(k) A_k + c_k)                            (head k's view of the fields)
    E_k      = attention((a_{d,k,f} e_f)_f), flattened
    u_k      = dynamic(u; E_k)                                         (implicit scenarios)
    logit_t  = tower_t(layer([u_1, ..., u_K]))

    dynamic(h; s) = (h W + b) W' + b',  [W, b, W', b'] = s G + g

e_d^(k) is the k-th of K equal parts of the domain's embedding. The attention has one head.
Equations are those of the authors' released code, which says that it is for reference only; its
dropout and batch norms are left out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.models.init import glorot
from domain_experts.models.multi.base import MultiContext, MultiModel
from domain_experts.models.multi.blocks import Layer, Towers, by_domain, uniform

Made = tuple[Tensor, Tensor, Tensor, Tensor]


class Dynamic(nn.Module):
    """Weights W (n, i, g), b (n, g), W' (n, g, o) and b' (n, o) made of vectors (n, d)."""

    def __init__(
        self, vector: int, d_in: int, inner: int, d_out: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.shapes = ((d_in, inner), (inner,), (inner, d_out), (d_out,))
        self.sizes = [d_in * inner, inner, inner * d_out, d_out]
        self.G = uniform(generator, vector * d_in, vector, sum(self.sizes))
        self.g = nn.Parameter(
            torch.cat(
                [
                    uniform(generator, fan_in, size).detach()
                    for fan_in, size in zip((d_in, d_in, inner, inner), self.sizes, strict=True)
                ]
            )
        )

    def forward(self, vectors: Tensor) -> Made:
        """The weights for vectors (n, d)."""
        parts = torch.split(torch.addmm(self.g, vectors, self.G), self.sizes, 1)
        W, b, W_2, b_2 = (
            part.view(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True)
        )
        return W, b, W_2, b_2


class FieldAttention(nn.Module):
    """softmax(Q K' / sqrt(d)) V W_O + b_O over the fields of one row."""

    def __init__(self, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W_QKV = uniform(generator, dim, dim, 3 * dim)
        self.b_QKV = uniform(generator, dim, 3 * dim)
        self.W_O = uniform(generator, dim, dim, dim)
        self.b_O = uniform(generator, dim, dim)

    def forward(self, e: Tensor) -> Tensor:
        """Map e (..., F, d) to (..., F, d)."""
        q, k, v = (e @ self.W_QKV + self.b_QKV).chunk(3, -1)
        return functional.scaled_dot_product_attention(q, k, v) @ self.W_O + self.b_O


class Model(MultiModel):
    """HierRec; what belongs to a task serves all scenarios."""

    def __init__(self, context: MultiContext) -> None:
        super().__init__(context)
        own, generator = context.settings.hierrec, context.generator
        dim, width = context.settings.embedding_dim, context.settings.hidden[-1]
        domains, tasks = len(context.schema.domains), len(context.schema.tasks)
        self.fields, self.dim, self.heads = len(context.schema.fields), dim, own.heads
        part = dim // own.heads
        self.bottom = Layer(1, self.width, width, generator)
        # as in the released code: generated weights differ by scenario from the start
        self.domains = nn.Parameter(glorot("glorot_uniform", domains, dim, generator))
        self.explicit = Dynamic(dim, width, own.inner, width, generator)
        self.A = uniform(generator, part, own.heads, part, self.fields)
        self.c = uniform(generator, part, own.heads, self.fields)
        self.attention = FieldAttention(dim, generator)
        self.implicit = Dynamic(self.fields * dim, width, own.inner, width, generator)
        self.joined = Layer(1, own.heads * width, width, generator)
        self.towers = Towers(1, tasks, width, width, generator)

    def grouped(self, x: Tensor, counts: list[int]) -> Tensor:
        h = self.bottom(x).squeeze(1)
        made = [part.unbind() for part in self.explicit(self.domains)]
        own = []
        for d, rows in by_domain(h, counts):
            W, b, W_2, b_2 = (part[d] for part in made)
            own.append(torch.addmm(b_2, torch.addmm(b, rows, W), W_2))
        heads = self.by_head(torch.cat(own), x, counts)
        top = self.joined(heads).expand(-1, len(self.schema.tasks), -1)
        logits: Tensor = self.towers(top, [len(x)])
        return logits

    def by_head(self, u: Tensor, x: Tensor, counts: list[int]) -> Tensor:
        """[u_1, ..., u_K] (B, K width) of u (B, width)."""
        parts = self.domains.view(-1, self.heads, self.dim // self.heads).transpose(0, 1)
        weights = torch.baddbmm(self.c.unsqueeze(1), parts, self.A).softmax(2).transpose(0, 1)
        domain = torch.repeat_interleave(torch.tensor(counts, device=x.device))
        e = x[:, : self.fields * self.dim].reshape(-1, 1, self.fields, self.dim)
        seen = self.attention(weights[domain].unsqueeze(3) * e)
        W, b, W_2, b_2 = self.implicit(seen.reshape(-1, self.fields * self.dim))
        each = u.unsqueeze(1).expand(-1, self.heads, -1).reshape(-1, 1, u.shape[1])
        inner = torch.baddbmm(b.unsqueeze(1), each, W)
        return torch.baddbmm(b_2.unsqueeze(1), inner, W_2).view(len(u), -1)
