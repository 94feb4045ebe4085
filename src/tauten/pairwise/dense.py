"""The readable reference: the whole pair matrix, differentiated by autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.pairwise.masks import PairMask
from tauten.pairwise.once import transformed
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.sides import as_reduced


def reduce_dense(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None = None,
    *,
    cosine: bool = False,
) -> tuple[Tensor, ...]:
    """Compute each reduction of S = x·yᵀ, with S (N, M) in memory.

    The arguments are those of :func:`reduce_pairs`.
    """
    with torch.autocast(x.device.type, enabled=False):
        x, y = as_reduced(x, y, cosine=cosine)
        sim_NM = product(x, y.T)
        out_NM = None if mask is None else mask.tile(slice(0, len(x)), slice(0, len(y)))
        return tuple(_reduce(sim_NM, out_NM, reduction) for reduction in reductions)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, in full precision backward too where that runs under autocast."""
    if transformed() or not torch.is_grad_enabled():
        return a @ b
    return _Product.apply(a, b)  # type: ignore[no-untyped-call, no-any-return]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        with torch.autocast(cotangent.device.type, enabled=False):
            return (
                product(cotangent, b.mT) if ctx.needs_input_grad[0] else None,
                product(cotangent.mT, a).mT if ctx.needs_input_grad[1] else None,
            )


def _reduce(sim_NM: Tensor, out_NM: Tensor | None, reduction: Reduction) -> Tensor:
    value = reduction.term.value(sim_NM, *reduction.numbers)
    if reduction.how == "sum":
        value = value if out_NM is None else value.masked_fill(out_NM, 0.0)
        return value.sum(reduction.dim)
    empty_NM = value.detach().isneginf()  # of weight 0: no gradient, also where a whole row is
    out_NM = empty_NM if out_NM is None else empty_NM | out_NM
    return value.masked_fill(out_NM, -float("inf")).logsumexp(reduction.dim)
