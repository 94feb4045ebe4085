"""Rows of length 1 of both sides, computed once for everything that a batch needs of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tauten.pairwise.both import lengths
from tauten.pairwise.once import gradients, jvp, more_is_asked, transformed
from tauten.pairwise.reduction import compute_dtype
from tauten.pairwise.sides import as_reduced


@dataclass
class Units:
    """Both sides with rows of length 1, in the precision of the reductions.

    Attributes:
        x: (N, d).
        y: (M, d), M >= N.
        scores: (N,) cosines of x[i] and y[i].
        sim: (N, M) cosines of all pairs, detached; None until they are asked for.
    """

    x: Tensor
    y: Tensor
    scores: Tensor
    sim: Tensor | None = None


def unit_rows(x: Tensor, y: Tensor, *, trusting: bool) -> Units:
    """Return the rows of both sides at length 1, and the cosines of x[i] and y[i].

    Args:
        x: (N, d).
        y: (M, d), M >= N.
        trusting: whether rows that cannot be scaled as they are, because their squares overflow or
            vanish, become NaN, instead of being taken for short; not in a graph or a transform.
    """
    if transformed() or torch.compiler.is_compiling():
        return Units(*_plain(x, y))
    dtype = compute_dtype(x, y)
    x = x if x.dtype == dtype else x.to(dtype)
    y = y if y.dtype == dtype else y.to(dtype)
    return Units(*_Units.apply(x, y, trusting))  # type: ignore[no-untyped-call]


class _Units(torch.autograd.Function):
    jvp = staticmethod(jvp)

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, trusting: bool) -> tuple[Tensor, Tensor, Tensor]:
        of_x, of_y = (lengths(side, trusting=trusting) for side in (x, y))
        left, right = x / of_x, y / of_y
        ctx.save_for_backward(x, y, left, right, of_x, of_y)
        ctx.set_materialize_grads(False)
        return left, right, (left * right[: x.shape[0]]).sum(1)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y, left, right, of_x, of_y = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad[:2]
        if more_is_asked(cotangents):
            return *gradients(_plain, (x, y), (need_x, need_y), cotangents), None
        grad_x, grad_y, grad_s = cotangents
        factor = None if grad_s is None else grad_s.unsqueeze(1)
        rows = x.shape[0]
        return (
            _gradient(left, of_x, grad_x, right[:rows], factor) if need_x else None,
            _gradient(right, of_y, grad_y, left, factor) if need_y else None,
            None,
        )


def _gradient(
    unit: Tensor, lengths: Tensor, grad: Tensor | None, other: Tensor, factor: Tensor | None
) -> Tensor | None:
    """Return the gradient (g - u(u·g))/‖v‖ of rows v, where g is that of u = v/‖v‖."""
    if factor is not None:
        if grad is None:
            grad = unit.new_zeros(unit.shape)
            grad[: len(other)] = other * factor
        elif other.shape == grad.shape:
            grad = torch.addcmul(grad, other, factor)
        else:
            grad = grad.clone()
            grad[: len(other)].addcmul_(other, factor)
    if grad is None:
        return None
    along = (unit * grad).sum(1, keepdim=True)
    return torch.addcmul(grad, unit, along, value=-1).div_(lengths)


def _plain(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """Return unit rows of both sides and the cosines of pairs in torch's own operations."""
    left, right = as_reduced(x, y, cosine=True)
    return left, right, (left * right[: x.shape[0]]).sum(1)
