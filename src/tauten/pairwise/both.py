"""A loss of pairs, both ways, in one step of autograd: the fast way of small batches.

Where x[i] and y[i] are a pair, all others but a few are negatives and S fits in memory, rows of
length 1, S, what the loss makes of it and all derivatives are a few operations in closed form.
Second derivatives follow from the objective's formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.pairwise.dense import product
from tauten.pairwise.normal import multiplied_, normal_, scaled
from tauten.pairwise.objectives import Objective
from tauten.pairwise.once import gradients, in_closed_form, jvp
from tauten.pairwise.reduction import compute_dtype
from tauten.pairwise.sides import EPSILON, as_reduced

#: lengths of rows whose squares neither overflow nor vanish in float32
LENGTHS = (1e-10, 1e15)


def reduce_both(
    x: Tensor,
    y: Tensor,
    objective: Objective,
    *numbers: Tensor,
    out: Tensor | None = None,
    trusting: bool = True,
) -> Tensor:
    """Return (2, N) what an objective makes of the cosines of x and y, for rows and columns.

    Args:
        x: (N, d), N > 1.
        y: (N, d).
        objective: in closed form.
        numbers: of the objective, each (), (N,) or (2, N), in the precision of the reductions.
        out: (K,) long, places i·N + j of pairs that are no negatives; each anchor has one that is.
        trusting: whether rows that cannot be scaled as they are, because their squares overflow or
            vanish, make the results NaN, instead of being taken for short.
    """
    dtype = compute_dtype(x, y)
    x = x if x.dtype == dtype else x.to(dtype)
    y = y if y.dtype == dtype else y.to(dtype)
    result: Tensor = _Both.apply(  # type: ignore[no-untyped-call]
        objective, trusting, out, x, y, *numbers
    )
    return result


def lengths(vectors: Tensor, *, trusting: bool) -> Tensor:
    """Return (n, 1) what rows are divided by; with ``trusting`` as in :func:`reduce_both`."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    if not trusting:
        return norms.clamp_(min=EPSILON)
    return norms.masked_fill_(norms != norms.clamp(*LENGTHS), torch.nan)


def _back(ctx: Any, cotangents: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    left, right, of_x, of_y, sim, *saved = ctx.saved_tensors[2:]
    numbers, extra = saved[: ctx.count], saved[ctx.count :]
    need_x, need_y, *needs = ctx.needs_input_grad[3:]
    (cotangent,), scale = scaled(cotangents)
    grad = normal_(ctx.objective.slope(sim, numbers, extra, cotangent))
    pull = grad * sim  # its sums are the parts of the gradients along the unit rows
    grads: list[Tensor | None] = [None] * (2 + ctx.count)
    if need_x:
        along = pull.sum(1, keepdim=True)
        grads[0] = torch.mm(grad, right).addcmul_(left, along, value=-1).div_(of_x)
    if need_y:
        along = pull.sum(0).unsqueeze(1)
        grads[1] = torch.mm(grad.T, left).addcmul_(right, along, value=-1).div_(of_y)
    if any(needs):
        parts = ctx.objective.of_numbers(sim, numbers, extra, cotangent, pull)
        grads[2:] = [
            part.sum_to_size(number.shape) if need else None
            for part, number, need in zip(parts, numbers, needs, strict=True)
        ]
    return None, None, None, *multiplied_(grads, scale)


def _formula(ctx: Any, cotangents: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients by the objective's formula."""
    x, y, _, _, _, _, _, *saved = ctx.saved_tensors

    def plain(x: Tensor, y: Tensor, *numbers: Tensor) -> list[Tensor]:
        left, right = as_reduced(x, y, cosine=True)
        return [ctx.objective.plain(product(left, right.T), *numbers, out=ctx.out)]

    inputs = (x, y, *saved[: ctx.count])
    return None, None, None, *gradients(plain, inputs, ctx.needs_input_grad[3:], cotangents)


class _Both(torch.autograd.Function):
    jvp = staticmethod(jvp)
    backward = in_closed_form(_back, _formula)

    @staticmethod
    def forward(
        ctx: Any,
        objective: Objective,
        trusting: bool,
        out: Tensor | None,
        x: Tensor,
        y: Tensor,
        *numbers: Tensor,
    ) -> Tensor:
        of_x, of_y = (lengths(side, trusting=trusting) for side in (x, y))
        left, right = x / of_x, y / of_y
        sim = torch.mm(left, right.T)
        values, extra = objective.value(sim, *numbers, out=out)
        ctx.objective, ctx.out, ctx.count = objective, out, len(numbers)
        ctx.save_for_backward(x, y, left, right, of_x, of_y, sim, *numbers, *extra)
        return values
