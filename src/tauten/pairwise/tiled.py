"""The pair matrix in tiles, two sweeps: memory O((N + M)·d) instead of O(N·M).

The forward sweep forms each tile of S once and adds it to every reduction, of rows and of
columns. Saved for backward are x, y, the numbers and the results. The backward sweep forms each
tile again and takes the cotangents of the results through it:

    sum:        ∂r_i/∂φ_ij = 1
    logsumexp:  ∂r_i/∂φ_ij = exp(φ_ij − r_i)

Where |φ| is known to stay small (cosines over a moderate τ), exp(φ) can neither overflow nor
vanish, so that it is summed as it is and shared between rows and columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tauten.pairwise.masks import PairMask
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.sides import Side, compute_dtype
from tauten.pairwise.terms import Slopes, Term

#: rows and columns of a tile: large enough for few and fast products, small enough for the cache
TILE = (512, 768)

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
class Plan:
    """What is reduced, and how.

    Attributes:
        dims: for each reduction the dimension of S that is summed away.
        groups: reductions that share φ.
        mask: pairs to leave out.
        tile: rows and columns of a tile.
        cosine: whether rows are scaled to length 1.
        dtype: precision of the reductions.
    """

    dims: tuple[int, ...]
    groups: tuple[_Group, ...]
    mask: PairMask | None
    tile: tuple[int, int]
    cosine: bool
    dtype: torch.dtype

    def side(self, vectors: Tensor) -> Side:
        """Vectors as the reductions see them."""
        return Side(vectors, self.dtype, cosine=self.cosine)

    def logarithmic(self, at: int) -> bool:
        """Whether a result is a log-sum-exp."""
        return any(at in group.members and group.how == "logsumexp" for group in self.groups)

    def online(self, at: int) -> bool:
        """Whether a result is accumulated as a log-sum-exp, and not as a sum."""
        (group,) = (group for group in self.groups if at in group.members)
        return group.how == "logsumexp" and not group.small

    def empty(self, left: Side, cols: int) -> list[Tensor]:
        """Results over no pair: (N,) or (M,) for each reduction."""
        return [
            left.vectors.new_full(
                (len(left) if dim == 1 else cols,),
                -math.inf if self.online(at) else 0.0,
                dtype=left.dtype,
            )
            for at, dim in enumerate(self.dims)
        ]

    def finish(self, results: Sequence[Tensor], which: Iterable[int]) -> None:
        """Turn sums of exponentials into logarithms, in place."""
        small = {at for group in self.groups if group.small for at in group.members}
        for at in which:
            if at in small:
                results[at].log_()

    def factors(self, results: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
        """What multiplies the weight of each pair: the cotangent, over exp(result) if small."""
        factors = [c.unsqueeze(dim) for c, dim in zip(cotangents, self.dims, strict=True)]
        for group in self.groups:
            for at in group.members if group.how == "logsumexp" else ():
                result = results[at].unsqueeze(self.dims[at])
                empty = result == -math.inf
                if group.small:
                    factors[at] = factors[at] * torch.exp(-result)
                factors[at] = factors[at].masked_fill(empty, 0.0)
        return factors


def reduce_tiled(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None = None,
    *,
    tile: tuple[int, int] = TILE,
    cosine: bool = False,
) -> tuple[Tensor, ...]:
    """Each reduction of S = x·yᵀ, with one tile of S in memory at a time.

    The arguments are those of :func:`reduce_pairs`; ``tile`` is the size of a tile.

    Returns:
        One (N,) or (M,) tensor for each reduction, differentiable once in x, y and the numbers.
    """
    plan, numbers = make_plan(x, y, reductions, mask, tile=tile, cosine=cosine)
    results: tuple[Tensor, ...] = _Tiled.apply(plan, x, y, *numbers)  # type: ignore[no-untyped-call]
    return results


def make_plan(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None,
    *,
    tile: tuple[int, int],
    cosine: bool,
) -> tuple[Plan, list[Tensor]]:
    """What is to be done on each tile, and the distinct numbers."""
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
    room = _SAFE_EXPONENT - math.log(max(len(x), len(y), 1))
    groups = []
    for (term, how, used), members in found.items():
        limit = term.bound(1.0, [numbers[k] for k in used]) if cosine else None
        small = how == "logsumexp" and limit is not None and limit <= room
        groups.append(_Group(term, how, used, tuple(members), small))
    dims = tuple(r.dim for r in reductions)
    return Plan(dims, tuple(groups), mask, tile, cosine, compute_dtype(x, y)), numbers


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: Plan, x: Tensor, y: Tensor, *numbers: Tensor) -> tuple[Tensor, ...]:
        left, right = plan.side(x), plan.side(y)
        results = plan.empty(left, len(right))
        accumulate(plan, left, right, 0, numbers, results)
        plan.finish(results, range(len(results)))
        ctx.plan = plan
        ctx.save_for_backward(x, y, *numbers, *results)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        saved = ctx.saved_tensors
        count = len(saved) - 2 - len(plan.dims)
        x, y, numbers, results = saved[0], saved[1], saved[2 : 2 + count], saved[2 + count :]
        need_x, need_y, *needs = ctx.needs_input_grad[1:]
        left, right = plan.side(x), plan.side(y)
        gradients = Gradients.zeros(plan, left if need_x else None, numbers, needs)
        grad_y = right.zeros() if need_y else None
        factors = plan.factors(results, cotangents)
        propagate(plan, left, right, 0, numbers, results, factors, gradients, grad_y)
        return (
            None,
            None if gradients.x is None else left.gradient(gradients.x),
            None if grad_y is None else right.gradient(grad_y),
            *gradients.numbers,
        )


@dataclass(frozen=True)
class Gradients:
    """What the backward sweep adds up: of the rows of x, and of the numbers."""

    x: Tensor | None
    numbers: list[Tensor | None]

    @classmethod
    def zeros(
        cls, plan: Plan, left: Side | None, numbers: Sequence[Tensor], needs: Sequence[bool]
    ) -> Gradients:
        """Zeros for what is needed."""
        return cls(
            None if left is None else left.zeros(),
            [torch.zeros_like(n) if need else None for n, need in zip(numbers, needs, strict=True)],
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
    for tile in _tiles(left, right, first, plan.tile, spares=1):
        rows, cols, sim, spare = tile.rows, tile.cols, tile.sim, tile.spare
        out = None if plan.mask is None else plan.mask.tile(rows, cols)
        for group in plan.groups:
            parts = [_cut(numbers[k], rows, cols) for k in group.numbers]
            for at_first, at in enumerate(group.members):
                if at_first == 0 or (group.how == "logsumexp" and not group.small):
                    value = _evaluate(group, sim, parts, out, spare[0])
                dim = plan.dims[at]
                result = results[at][rows if dim == 1 else cols]
                if group.how == "sum" or group.small:
                    result += value.sum(dim)
                else:
                    torch.logaddexp(result, _logsumexp_(value, dim), out=result)


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
        results: of the forward pass.
        factors: cotangents, from :meth:`Plan.factors`.
        gradients: added to.
        grad_y: (m, d) gradient of the block's columns, added to.
    """
    asked_for = [grad is not None for grad in gradients.numbers]
    for tile in _tiles(left, right, first, plan.tile, spares=2):
        rows, cols, sim, spare = tile.rows, tile.cols, tile.sim, tile.spare
        out = None if plan.mask is None else plan.mask.tile(rows, cols)
        grad_sim: Tensor | None = None
        for group in plan.groups:
            parts = [_cut(numbers[k], rows, cols) for k in group.numbers]
            slopes = group.term.slopes(sim, parts, [asked_for[k] for k in group.numbers])
            shared = _weights(group, sim, parts, out, None, spare[1])
            for at in group.members:
                weight = shared
                if group.how == "logsumexp" and not group.small:
                    shift = _cut(results[at].unsqueeze(plan.dims[at]), rows, cols)
                    weight = _weights(group, sim, parts, out, shift, spare[1])
                factor = _cut(factors[at], rows, cols)
                grad_sim = _accumulate(grad_sim, weight, slopes, factor, sim, spare[0])
                for k, slope in zip(group.numbers, slopes.numbers, strict=True):
                    grad = gradients.numbers[k]
                    if slope is not None and grad is not None:
                        part = slope if weight is None else slope * weight
                        _add_to(grad, part * factor, rows, cols)
        assert grad_sim is not None
        if gradients.x is not None:
            gradients.x[rows].addmm_(grad_sim, tile.y)
        if grad_y is not None:
            grad_y[cols.start - first : cols.stop - first].addmm_(grad_sim.T, tile.x)


@dataclass(frozen=True)
class _Tile:
    """A tile of S, its place, the vectors it is made of, and buffers of its size."""

    rows: slice
    cols: slice
    x: Tensor
    y: Tensor
    sim: Tensor
    spare: list[Tensor]


def _tiles(
    left: Side, right: Side, first: int, size: tuple[int, int], spares: int
) -> Iterator[_Tile]:
    """Every tile, in buffers that are reused; the first column of ``right`` is number ``first``."""
    height, width = min(size[0], len(left)), min(size[1], len(right))
    if not height or not width:
        return
    buffers = [
        torch.empty(height * width, dtype=left.dtype, device=left.vectors.device)
        for _ in range(1 + spares)
    ]
    for top in range(0, len(left), height):
        rows = slice(top, min(top + height, len(left)))
        x = left.rows(rows)
        for start in range(0, len(right), width):
            stop = min(start + width, len(right))
            y = right.rows(slice(start, stop))
            shape = (len(x), len(y))
            sim, *spare = (b[: shape[0] * shape[1]].view(shape) for b in buffers)
            torch.mm(x, y.T, out=sim)
            yield _Tile(rows, slice(first + start, first + stop), x, y, sim, spare)


def _cut(number: Tensor, rows: slice, cols: slice) -> Tensor:
    if number.shape[0] > 1:
        return number[rows]
    return number[:, cols] if number.shape[1] > 1 else number


def _value(term: Term, sim: Tensor, parts: Sequence[Tensor], spare: Tensor) -> Tensor:
    """φ in memory of its own, to be overwritten."""
    value = term.value(sim, *parts, out=spare).expand_as(sim)
    shared = value.data_ptr() == sim.data_ptr() or not value.is_contiguous()
    return value.clone(memory_format=torch.contiguous_format) if shared else value


def _evaluate(
    group: _Group, sim: Tensor, parts: Sequence[Tensor], out: Tensor | None, spare: Tensor
) -> Tensor:
    """φ for a sum or an online logsumexp, exp(φ) for a small one, masked."""
    value = _value(group.term, sim, parts, spare)
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
    value = _value(group.term, sim, parts, spare)
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
