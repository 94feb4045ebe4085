"""The pair matrix in tiles, two sweeps: memory O((N + M)·d) instead of O(N·M).

The forward sweep forms each tile of S once and adds it to every reduction, of rows and of
columns. Saved for backward are x, y, the numbers and the results. The backward sweep forms each
tile again and takes the cotangents of the results through it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.pairwise.areas import over_areas
from tauten.pairwise.masks import PairMask
from tauten.pairwise.normal import multiplied_, scaled
from tauten.pairwise.once import apply_once, first_only
from tauten.pairwise.plan import Gradients, Plan, make_plan
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.sides import Side
from tauten.pairwise.tiles import cotangent_of_tile, reduce_tile, tiles
from tauten.reads import FREE

#: rows and columns of a tile: large enough for few and fast products, small enough for the cache
TILE = (512, 768)

#: those of a tile on a GPU, where it takes longer to begin a small one than to compute it
TILE_ON_GPU = (4096, 4096)


def tile_on(device: torch.device) -> tuple[int, int]:
    """Return rows and columns of a tile on a device."""
    return TILE if device.type in FREE else TILE_ON_GPU


def reduce_tiled(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None = None,
    *,
    tile: tuple[int, int] = TILE,
    cosine: bool = False,
) -> tuple[Tensor, ...]:
    """Compute each reduction of S = x·yᵀ, with one tile of S in memory at a time.

    The arguments are those of :func:`reduce_pairs`; ``tile`` is the size of a tile.

    Returns:
        One (N,) or (M,) tensor for each reduction, differentiable once in x, y and the numbers.
    """
    plan, numbers = make_plan(x, y, reductions, mask, tile=tile, cosine=cosine)
    return sweep(plan, (accumulate, propagate), x, y, numbers)


#: how a block's pairs are added to the results, and how cotangents go back through them
Sweeps = tuple[Callable[..., None], Callable[..., None]]


def sweep(
    plan: Plan, sweeps: Sweeps, x: Tensor, y: Tensor, numbers: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return the reductions of a plan by two sweeps over S, of the kind of those below.

    Returns:
        One (N,) or (M,) tensor for each reduction, differentiable once in x, y and the numbers.
    """
    results: tuple[Tensor, ...] = apply_once(_Swept, plan, sweeps, x, y, *numbers)
    return results


class _Swept(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, sweeps: Sweeps, x: Tensor, y: Tensor, *numbers: Tensor
    ) -> tuple[Tensor, ...]:
        left, right = plan.side(x), plan.side(y)
        results = plan.empty(left, len(right))
        add, ctx.take_back = sweeps
        add(plan, left, right, 0, numbers, results)
        plan.finish(results, range(len(results)))
        ctx.plan = plan
        ctx.save_for_backward(x, y, *numbers, *results)
        return tuple(results)

    @staticmethod
    @first_only
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        saved = ctx.saved_tensors
        count = len(saved) - 2 - len(plan.dims)
        x, y, numbers, results = saved[0], saved[1], saved[2 : 2 + count], saved[2 + count :]
        need_x, need_y, *needs = ctx.needs_input_grad[2:]
        left, right = plan.side(x), plan.side(y)
        gradients = Gradients.zeros(plan, left if need_x else None, numbers, needs)
        grad_y = right.zeros() if need_y else None
        parts, scale = scaled(cotangents)
        factors = plan.factors(results, parts)
        ctx.take_back(plan, left, right, 0, numbers, results, factors, gradients, grad_y)
        grad_x, grad_y, *of_numbers = multiplied_([gradients.x, grad_y, *gradients.numbers], scale)
        return (
            None,
            None,
            None if grad_x is None else left.gradient(grad_x),
            None if grad_y is None else right.gradient(grad_y),
            *of_numbers,
        )


def accumulate(
    plan: Plan,
    left: Side,
    right: Side,
    first: int,
    numbers: Sequence[Tensor],
    results: Sequence[Tensor],
) -> None:
    """Add the pairs of these rows with a block of columns to the results.

    Args:
        plan: what to reduce.
        left: all rows.
        right: the columns first, first + 1, ...
        first: the first of these columns.
        numbers: of all rows and columns.
        results: (N,) or (M,) for each reduction, over all rows and columns.
    """

    def area(rows: slice, cols: slice) -> None:
        for tile in tiles(plan, left, right, first, rows, cols):
            reduce_tile(plan, tile, numbers, results)

    over_areas(area, len(left), len(right), plan.tile, left.vectors.device)


def propagate(
    plan: Plan,
    left: Side,
    right: Side,
    first: int,
    numbers: Sequence[Tensor],
    results: Sequence[Tensor],
    factors: Sequence[Tensor],
    gradients: Gradients,
    grad_y: Tensor | None,
) -> None:
    """Take the cotangents back through the pairs of these rows with a block of columns.

    Args:
        plan: what was reduced.
        left: all rows.
        right: the columns first, first + 1, ...
        first: the first of these columns.
        numbers: of all rows and columns.
        results: results of the forward pass.
        factors: cotangents, from :meth:`Plan.factors`.
        gradients: added to.
        grad_y: (m, d) gradient of the block's columns, added to.
    """

    def area(rows: slice, cols: slice) -> Gradients:
        part = gradients.part()
        for tile in tiles(plan, left, right, first, rows, cols):
            grad_sim = cotangent_of_tile(plan, tile, numbers, results, factors, part)
            if part.x is not None:
                part.x[tile.rows].addmm_(grad_sim, tile.y)
            if grad_y is not None:
                grad_y[tile.cols.start - first : tile.cols.stop - first].addmm_(grad_sim.T, tile.x)
        return part

    for part in over_areas(area, len(left), len(right), plan.tile, left.vectors.device):
        gradients.join(part)
