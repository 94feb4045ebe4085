"""The pair matrix in tiles, two sweeps: memory O((N + M)·d) instead of O(N·M).

The forward sweep forms each tile of S = x·yᵀ once and adds it to every reduction, of rows and of
columns. Saved for backward are x, y, the numbers and the results. The backward sweep forms each
tile again and takes the cotangents of the results through it:

    sum:        ∂r_i/∂φ_ij = 1
    logsumexp:  ∂r_i/∂φ_ij = exp(φ_ij − r_i)

Where |φ| is known to stay small (cosines over a moderate τ), exp(φ) can neither overflow nor
vanish, so that it is summed as it is and shared between rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tauten.pairwise.masks import PairMask
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.terms import Slopes, Term

#: rows and columns of a tile: S and two buffers of its size stay in the cache of two cores
TILE = (256, 1024)

#: exp stays finite and above float32's smallest normal number for sums below exp(±this)
_SAFE_EXPONENT = 85.0


@dataclass(frozen=True)
class _Group:
    """Reductions that share φ, its numbers and how they reduce, so that φ is evaluated once."""

    term: Term
    how: str
    numbers: tuple[int, ...]
    members: tuple[int, ...]
    small: bool


@dataclass(frozen=True)
class _Plan:
    dims: tuple[int, ...]
    groups: tuple[_Group, ...]
    mask: PairMask | None
    tile: tuple[int, int]


def reduce_tiled(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None = None,
    *,
    tile: tuple[int, int] = TILE,
    s_max: float | None = None,
) -> tuple[Tensor, ...]:
    """Each reduction of S = x·yᵀ, with one tile of S in memory at a time.

    Args:
        x: (N, d).
        y: (M, d).
        reductions: what to reduce.
        mask: pairs to leave out.
        tile: rows and columns of a tile, each >= 1.
        s_max: a bound on |s| that holds for every pair (1 for cosines), if one is known.

    Returns:
        One (N,) or (M,) tensor for each reduction, differentiable once in x, y and the numbers.
    """
    numbers: list[Tensor] = []
    places: dict[int, int] = {}
    for reduction in reductions:
        for number in reduction.numbers:
            if id(number) not in places:
                places[id(number)] = len(numbers)
                numbers.append(number)
    found: dict[tuple[Term, str, tuple[int, ...]], list[int]] = {}
    for at, reduction in enumerate(reductions):
        used = tuple(places[id(number)] for number in reduction.numbers)
        found.setdefault((reduction.term, reduction.how, used), []).append(at)
    room = _SAFE_EXPONENT - math.log(max(len(x), len(y)))
    groups = []
    for (term, how, used), members in found.items():
        limit = None if s_max is None else term.bound(s_max, [numbers[k] for k in used])
        small = how == "logsumexp" and limit is not None and limit <= room
        groups.append(_Group(term, how, used, tuple(members), small))
    plan = _Plan(tuple(r.dim for r in reductions), tuple(groups), mask, tile)
    results: tuple[Tensor, ...] = _Tiled.apply(plan, x, y, *numbers)  # type: ignore[no-untyped-call]
    return results


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: _Plan, x: Tensor, y: Tensor, *numbers: Tensor
    ) -> tuple[Tensor, ...]:
        results = []
        for at, dim in enumerate(plan.dims):
            online = any(
                g.how == "logsumexp" and not g.small and at in g.members for g in plan.groups
            )
            start = -math.inf if online else 0.0
            results.append(x.new_full((len(x) if dim == 1 else len(y),), start))
        for rows, cols, sim, spare in _tiles(x, y, plan.tile, spares=1):
            out = None if plan.mask is None else plan.mask.tile(rows, cols)
            for group in plan.groups:
                parts = [_cut(numbers[k], rows, cols) for k in group.numbers]
                for first, at in enumerate(group.members):
                    if first == 0 or (group.how == "logsumexp" and not group.small):
                        value = _evaluate(group, sim, parts, out, spare[0])
                    dim = plan.dims[at]
                    result = results[at][rows if dim == 1 else cols]
                    if group.how == "sum" or group.small:
                        result += value.sum(dim)
                    else:
                        torch.logaddexp(result, _logsumexp_(value, dim), out=result)
        for group in plan.groups:
            if group.small:
                for at in group.members:
                    results[at].log_()
        ctx.plan = plan
        ctx.save_for_backward(x, y, *numbers, *results)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: _Plan = ctx.plan
        saved = ctx.saved_tensors
        count = len(saved) - 2 - len(plan.dims)
        x, y, numbers, results = saved[0], saved[1], saved[2 : 2 + count], saved[2 + count :]
        need_x, need_y, *needs = ctx.needs_input_grad[1:]
        grad_x = torch.zeros_like(x) if need_x else None
        grad_y = torch.zeros_like(y) if need_y else None
        grads = [
            torch.zeros_like(n) if need else None for n, need in zip(numbers, needs, strict=True)
        ]
        factors = _factors(plan, results, cotangents)
        for rows, cols, sim, spare in _tiles(x, y, plan.tile, spares=2):
            out = None if plan.mask is None else plan.mask.tile(rows, cols)
            grad_sim: Tensor | None = None
            for group in plan.groups:
                parts = [_cut(numbers[k], rows, cols) for k in group.numbers]
                asked = [needs[k] for k in group.numbers]
                slopes = group.term.slopes(sim, parts, asked)
                shared = _weights(group, sim, parts, out, None, spare[1])
                for at in group.members:
                    weight = shared
                    if group.how == "logsumexp" and not group.small:
                        shift = _cut(_column(results[at], plan.dims[at]), rows, cols)
                        weight = _weights(group, sim, parts, out, shift, spare[1])
                    factor = _cut(factors[at], rows, cols)
                    grad_sim = _accumulate(grad_sim, weight, slopes, factor, sim, spare[0])
                    for k, slope in zip(group.numbers, slopes.numbers, strict=True):
                        grad = grads[k]
                        if slope is not None and grad is not None:
                            tile = slope if weight is None else slope * weight
                            _add_to(grad, tile * factor, rows, cols)
            assert grad_sim is not None
            if grad_x is not None:
                grad_x[rows].addmm_(grad_sim, y[cols])
            if grad_y is not None:
                grad_y[cols].addmm_(grad_sim.T, x[rows])
        return None, grad_x, grad_y, *grads


def _tiles(
    x: Tensor, y: Tensor, tile: tuple[int, int], spares: int
) -> Iterator[tuple[slice, slice, Tensor, list[Tensor]]]:
    """Each tile's place, its part of S, and buffers of its size, all reused."""
    height, width = min(tile[0], len(x)), min(tile[1], len(y))
    buffers = [x.new_empty(height * width) for _ in range(1 + spares)]
    for top in range(0, len(x), height):
        rows = slice(top, min(top + height, len(x)))
        for left in range(0, len(y), width):
            cols = slice(left, min(left + width, len(y)))
            shape = (rows.stop - rows.start, cols.stop - cols.start)
            sim, *spare = (b[: shape[0] * shape[1]].view(shape) for b in buffers)
            torch.mm(x[rows], y[cols].T, out=sim)
            yield rows, cols, sim, spare


def _cut(number: Tensor, rows: slice, cols: slice) -> Tensor:
    if number.shape[0] > 1:
        return number[rows]
    return number[:, cols] if number.shape[1] > 1 else number


def _column(vector: Tensor, dim: int) -> Tensor:
    return vector.unsqueeze(dim)


def _evaluate(
    group: _Group, sim: Tensor, parts: Sequence[Tensor], out: Tensor | None, spare: Tensor
) -> Tensor:
    """φ for a sum or an online logsumexp, exp(φ) for a small one, masked."""
    value = group.term.value(sim, *parts, out=spare)
    if group.small:
        value = value.exp_()
    if out is not None:
        online = group.how == "logsumexp" and not group.small
        value = value.masked_fill_(out, -math.inf if online else 0.0)
    return value


def _logsumexp_(value: Tensor, dim: int) -> Tensor:
    """Log-sum-exp that overwrites its argument."""
    peak = value.amax(dim, keepdim=True)
    peak.masked_fill_(peak == -math.inf, 0.0)
    return value.sub_(peak).exp_().sum(dim).log_().add_(peak.squeeze(dim))


def _factors(plan: _Plan, results: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
    """What multiplies the weight of each pair: the cotangent, over exp(result) if small."""
    factors = [_column(c, dim) for c, dim in zip(cotangents, plan.dims, strict=True)]
    for group in plan.groups:
        for at in group.members:
            if group.how == "logsumexp":
                result = _column(results[at], plan.dims[at])
                empty = result == -math.inf
                if group.small:
                    factors[at] = factors[at] * torch.exp(-result)
                factors[at] = factors[at].masked_fill(empty, 0.0)
    return factors


def _weights(
    group: _Group,
    sim: Tensor,
    parts: Sequence[Tensor],
    out: Tensor | None,
    shift: Tensor | None,
    spare: Tensor,
) -> Tensor | None:
    """∂result/∂φ on the tile up to its factor; None stands for 1."""
    if group.how == "sum":
        return None if out is None else torch.logical_not(out).to(sim.dtype)
    if shift is None and not group.small:
        return None
    value = group.term.value(sim, *parts, out=spare)
    if shift is not None:
        value = value.sub_(shift.masked_fill(shift == -math.inf, 0.0))
    value = value.exp_()
    return value if out is None else value.masked_fill_(out, 0.0)


def _accumulate(
    grad_sim: Tensor | None,
    weight: Tensor | None,
    slopes: Slopes,
    factor: Tensor,
    sim: Tensor,
    spare: Tensor,
) -> Tensor:
    """grad_sim + weight · ∂φ/∂s · factor."""
    vector = factor if slopes.vector is None else factor * slopes.vector
    if weight is None:
        tile = torch.ones_like(sim) if slopes.tile is None else slopes.tile
    else:
        tile = weight if slopes.tile is None else weight * slopes.tile
    if grad_sim is None:
        return torch.mul(tile, vector, out=spare)
    return grad_sim.addcmul_(tile, vector)


def _add_to(grad: Tensor, tile: Tensor, rows: slice, cols: slice) -> None:
    """Add the tile to the gradient of a number, summed over what the number spans."""
    if grad.shape[0] > 1:
        grad[rows] += tile.sum(1, keepdim=True)
    elif grad.shape[1] > 1:
        grad[:, cols] += tile.sum(0, keepdim=True)
    else:
        grad += tile.sum()
