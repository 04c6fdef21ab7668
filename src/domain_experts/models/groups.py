"""A batch whose rows stand together by group: by domain, or by expert."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Groups(NamedTuple):
    """`order` (B,) puts the rows together, group after group; `counts` are the rows of each."""

    order: Tensor
    counts: list[int]

    def back(self, grouped: Tensor) -> Tensor:
        """The grouped rows (B, ...) in the batch's own order."""
        return torch.empty_like(grouped).index_copy(0, self.order, grouped)


def group(number: Tensor, groups: int) -> Groups:
    """Group a batch by the number (B,) of each row's group; rows of a group keep their order."""
    counts = torch.bincount(number, minlength=groups).tolist()
    return Groups(torch.argsort(number, stable=True), counts)


class OwnProducts(torch.autograd.Function):
    """x_b W_d + c_d of each row b of x (B, i), d being its domain: W (D, i, o), c (D, o)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, c: Tensor, domain: Tensor) -> Tensor:
        groups = group(domain, len(W))
        rows, y = x[groups.order], x.new_empty(len(x), W.shape[2])
        each = zip(
            torch.split(rows, groups.counts), torch.split(y, groups.counts), W, c, strict=True
        )
        for own, out, weight, bias in each:
            torch.addmm(bias, own, weight, out=out)
        ctx.save_for_backward(rows, W)
        ctx.groups = groups
        return groups.back(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (rows, W), groups = ctx.saved_tensors, ctx.groups
        grad = gradient[groups.order]
        grads = torch.split(grad, groups.counts)
        grad_W, grad_c = torch.empty_like(W), W.new_empty(len(W), W.shape[2])
        for own, g, out, total in zip(
            torch.split(rows, groups.counts), grads, grad_W, grad_c, strict=True
        ):
            torch.mm(own.T, g, out=out)
            torch.sum(g, 0, out=total)
        if not ctx.needs_input_grad[0]:
            return None, grad_W, grad_c, None
        grad_x = torch.empty_like(rows)
        for g, weight, out in zip(grads, W, torch.split(grad_x, groups.counts), strict=True):
            torch.mm(g, weight.T, out=out)
        return groups.back(grad_x), grad_W, grad_c, None
