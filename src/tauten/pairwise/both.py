"""A loss of pairs, both ways, in one step of autograd: the fast way of small batches.

Where x[i] and y[i] are a pair, all others are negatives and S fits in memory, rows of length 1, S,
what the loss makes of it and all derivatives are a few operations in closed form. Second
derivatives follow from the objective's formula.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tauten.pairwise.dense import product
from tauten.pairwise.normal import normal_
from tauten.pairwise.objectives import Objective
from tauten.pairwise.once import jvp
from tauten.pairwise.reduction import compute_dtype
from tauten.pairwise.sides import as_reduced
from tauten.pairwise.units import LENGTHS


def reduce_both(x: Tensor, y: Tensor, objective: Objective, *numbers: Tensor) -> Tensor:
    """Return (2, N) what an objective makes of the cosines of x and y, for rows and columns.

    Rows that cannot be scaled as they are, because their squares overflow or vanish, make it NaN.

    Args:
        x: (N, d), N > 1.
        y: (N, d).
        objective: in closed form.
        numbers: of the objective, each (), (N,) or (2, N), in the precision of the reductions.
    """
    dtype = compute_dtype(x, y)
    x = x if x.dtype == dtype else x.to(dtype)
    y = y if y.dtype == dtype else y.to(dtype)
    result: Tensor = _Both.apply(objective, x, y, *numbers)  # type: ignore[no-untyped-call]
    return result


class _Both(torch.autograd.Function):
    jvp = staticmethod(jvp)

    @staticmethod
    def forward(ctx: Any, objective: Objective, x: Tensor, y: Tensor, *numbers: Tensor) -> Tensor:
        lengths = x.new_empty(2, x.shape[0], 1)
        for side, out in zip((x, y), lengths.unbind(), strict=True):
            torch.linalg.vector_norm(side, dim=1, keepdim=True, out=out)
        lengths.masked_fill_(lengths != lengths.clamp(*LENGTHS), torch.nan)
        of_x, of_y = lengths.unbind()
        left, right = x / of_x, y / of_y
        sim = torch.mm(left, right.T)
        values, extra = objective.value(sim, *numbers)
        ctx.objective, ctx.count = objective, len(numbers)
        ctx.save_for_backward(x, y, left, right, lengths, sim, *numbers, *extra)
        return values

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _twice(ctx, cotangent)
        kind = cotangent.device.type
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return _back(ctx, cotangent)
        return _back(ctx, cotangent)


def _back(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    _, _, left, right, lengths, sim, *saved = ctx.saved_tensors
    numbers, extra = saved[: ctx.count], saved[ctx.count :]
    _, need_x, need_y, *needs = ctx.needs_input_grad
    grad = normal_(ctx.objective.slope(sim, numbers, extra, cotangent))
    pull = grad * sim  # its sums are the parts of the gradients along the unit rows
    of_numbers: list[Tensor | None] = [None] * ctx.count
    if any(needs):
        parts = ctx.objective.of_numbers(sim, numbers, extra, cotangent, pull)
        of_numbers = [
            part.sum_to_size(number.shape) if need else None
            for part, number, need in zip(parts, numbers, needs, strict=True)
        ]
    of_x, of_y = lengths.unbind()
    grad_x = grad_y = None
    if need_x:
        along = pull.sum(1, keepdim=True)
        grad_x = torch.mm(grad, right).addcmul_(left, along, value=-1).div_(of_x)
    if need_y:
        along = pull.sum(0).unsqueeze(1)
        grad_y = torch.mm(grad.T, left).addcmul_(right, along, value=-1).div_(of_y)
    return None, grad_x, grad_y, *of_numbers


def _twice(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients with a graph of their own, by the objective's formula."""
    x, y, _, _, _, _, *saved = ctx.saved_tensors
    inputs = [tensor.view_as(tensor) for tensor in (x, y, *saved[: ctx.count])]
    left, right = as_reduced(inputs[0], inputs[1], cosine=True)
    values = ctx.objective.plain(product(left, right.T), *inputs[2:])
    needs = ctx.needs_input_grad[1:]
    wanted = [tensor for tensor, need in zip(inputs, needs, strict=True) if need]
    gradients = iter(
        torch.autograd.grad(values, wanted, cotangent, create_graph=True, allow_unused=True)
    )
    return None, *(next(gradients) if need else None for need in needs)
