"""Blocks of the multi-domain multi-task models; rows stand together by domain.

A layer is ReLU(LayerNorm(Linear)), as throughout M3oE's released code.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from domain_experts.errors import UserError


def uniform(generator: torch.Generator, fan_in: int, *shape: int) -> nn.Parameter:
    """Weights from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch's default for linear layers."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))


def by_domain(rows: Tensor, counts: list[int]) -> Iterator[tuple[int, Tensor]]:
    """The rows of each domain that has some, with its number."""
    for d, own in enumerate(torch.split(rows, counts)):
        if len(own):
            yield d, own


class Layer(nn.Module):
    """y_e = ReLU(LN_e(x W_e + b_e)) of E layers side by side, on one input or on E."""

    def __init__(self, count: int, d_in: int, d_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W = uniform(generator, d_in, count, d_in, d_out)
        self.b = uniform(generator, d_in, count, d_out)
        self.gamma = nn.Parameter(torch.ones(count, d_out))
        self.beta = nn.Parameter(torch.zeros(count, d_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, d_in) or (B, E, d_in) to (B, E, d_out)."""
        return _layer(x, self.W, self.b, self.gamma, self.beta)


def side_by_side(x: Tensor, layers: Sequence[Layer]) -> Tensor:
    """Outputs (B, sum E, d_out) of layers of one width, in one product: x (B, d_in)."""
    each = [(layer.W, layer.b, layer.gamma, layer.beta) for layer in layers]
    return _layer(x, *map(torch.cat, zip(*each, strict=True)))


def _layer(x: Tensor, W: Tensor, b: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    if x.dim() == 2:
        y = torch.addmm(b.flatten(), x, W.transpose(0, 1).flatten(1)).view(-1, *b.shape)
    else:
        y = torch.baddbmm(b.unsqueeze(1), x.transpose(0, 1), W).transpose(0, 1)
    shape = y.shape[-1:]
    if len(W) == 1:
        # the kernel scales and shifts by one vector in the same pass
        return functional.layer_norm(y, shape, gamma[0], beta[0]).relu_()
    return (functional.layer_norm(y, shape) * gamma).add_(beta).relu_()


def bottom_widths(hidden: Sequence[int]) -> tuple[int, int, int]:
    """Of M3oE's four widths: of the star-like layer, of what experts see, and of experts.

    Raises:
        UserError: the second and the third differ, though both are what experts see.
    """
    bottom, given, seen, last = hidden
    if given != seen:
        raise UserError(
            f"multi_model.hidden is {list(hidden)}: M3oE's experts, and STAR's layer, see what the "
            f"bottom gives, so that the second and the third width must be one, not {given} and "
            f"{seen}"
        )
    return bottom, given, last


class Experts(nn.Sequential):
    """E networks of layers side by side: x (B, widths[0]) to (B, E, widths[-1])."""

    def __init__(self, count: int, widths: Sequence[int], generator: torch.Generator) -> None:
        super().__init__(*(Layer(count, i, o, generator) for i, o in pairwise(widths)))


class Gates(nn.Module):
    """g_{d,t} = softmax(x W_{d,t} + b_{d,t}): weights over n experts, one gate an objective."""

    def __init__(
        self, domains: int, tasks: int, d_in: int, experts: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.shape = (tasks, experts)
        self.W = uniform(generator, d_in, domains, d_in, tasks * experts)
        self.b = uniform(generator, d_in, domains, tasks * experts)

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """Weights (B, T, n) for x (B, d_in)."""
        W, b = self.W.unbind(), self.b.unbind()
        logits = [torch.addmm(b[d], own, W[d]) for d, own in by_domain(x, counts)]
        return torch.cat(logits).view(-1, *self.shape).softmax(2)


class Towers(nn.Module):
    """logit_{d,t} = v_{d,t}' ReLU(norm(x_t W_{d,t} + b_{d,t})) + c_{d,t}: one tower an objective.

    The norm is LayerNorm; with `batch_norm` it is BatchNorm over the tower's own rows.
    """

    mean: Tensor
    var: Tensor

    def __init__(
        self,
        domains: int,
        tasks: int,
        d_in: int,
        hidden: int,
        generator: torch.Generator,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.W = uniform(generator, d_in, domains, tasks, d_in, hidden)
        self.b = uniform(generator, d_in, domains, tasks, hidden)
        self.gamma = nn.Parameter(torch.ones(domains, tasks, hidden))
        self.beta = nn.Parameter(torch.zeros(domains, tasks, hidden))
        self.v = uniform(generator, hidden, domains, tasks, hidden)
        self.c = uniform(generator, hidden, domains, tasks)
        self.batch_norm = batch_norm
        if batch_norm:
            self.register_buffer("mean", torch.zeros(domains, tasks * hidden))
            self.register_buffer("var", torch.ones(domains, tasks * hidden))

    def forward(self, x: Tensor, counts: list[int]) -> Tensor:
        """Logits (B, T) of x (B, T, d_in)."""
        parts = (p.unbind() for p in (self.W, self.b, self.gamma, self.beta, self.v, self.c))
        own = list(zip(*parts, strict=True))
        logits = []
        for d, rows in by_domain(x, counts):
            W, b, gamma, beta, v, c = own[d]
            y = torch.baddbmm(b.unsqueeze(1), rows.transpose(0, 1), W).transpose(0, 1)
            y = (self._normalised(y, d) * gamma).add_(beta).relu_()
            logits.append((y * v).sum(2) + c)
        return torch.cat(logits)

    def _normalised(self, y: Tensor, d: int) -> Tensor:
        if not self.batch_norm:
            return functional.layer_norm(y, y.shape[-1:])
        # one row has no variance
        moments = self.training and len(y) > 1
        flat = functional.batch_norm(y.flatten(1), self.mean[d], self.var[d], training=moments)
        return flat.view_as(y)
