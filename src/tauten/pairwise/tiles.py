"""Work on one tile of S: form it, add it to the results, take gradients back through φ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.pairwise.normal import exp_, normal_
from tauten.pairwise.plan import Gradients, Group, Plan
from tauten.pairwise.sides import Side
from tauten.pairwise.terms import Slopes, Term


@dataclass(frozen=True)
class Tile:
    """A tile of S, its place, the vectors it is made of, and buffers of its size."""

    rows: slice
    cols: slice
    x: Tensor
    y: Tensor
    sim: Tensor
    value: Tensor
    total: Tensor
    spare: Tensor

    def cut(self, number: Tensor) -> Tensor:
        """Return the part of a number that belongs to this tile."""
        if number.shape[0] > 1:
            return number[self.rows]
        return number[:, self.cols] if number.shape[1] > 1 else number


def tiles(
    plan: Plan, left: Side, right: Side, first: int, rows: slice, cols: slice
) -> Iterator[Tile]:
    """Yield the tiles of an area, in buffers that are reused.

    Args:
        plan: says how large tiles are.
        left: all rows.
        right: the columns first, first + 1, ...
        first: the first of these columns.
        rows: rows of the area.
        cols: columns of the area, counted from the first of ``right``.
    """
    height, width = _even(rows, plan.tile[0]), _even(cols, plan.tile[1])
    if not height or not width:
        return
    depth = left.vectors.shape[1]
    sizes = (height * depth, width * depth, *4 * (height * width,))
    x_room, y_room, *rooms = (left.vectors.new_empty(size, dtype=left.dtype) for size in sizes)
    for top in range(rows.start, rows.stop, height):
        at = slice(top, min(top + height, rows.stop))
        x = left.rows(at, _shaped(x_room, at, depth))
        for start in range(cols.start, cols.stop, width):
            own = slice(start, min(start + width, cols.stop))
            y = right.rows(own, _shaped(y_room, own, depth))
            sim, value, total, spare = (_shaped(room, at, len(y)) for room in rooms)
            torch.mm(x, y.T, out=sim)
            of_all = slice(first + own.start, first + own.stop)
            yield Tile(at, of_all, x, y, sim, value, total, spare)


def _even(span: slice, most: int) -> int:
    """Return a length that divides a span into nearly equal parts, none longer than ``most``."""
    length = span.stop - span.start
    count = -(-length // most)
    return min(most, -(-length // (16 * count)) * 16) if count else 0


def _shaped(room: Tensor, which: slice, width: int) -> Tensor:
    height = which.stop - which.start
    return room[: height * width].view(height, width)


def reduce_tile(
    plan: Plan, tile: Tile, numbers: Sequence[Tensor], results: Sequence[Tensor]
) -> None:
    """Add one tile to the results."""
    out = None if plan.mask is None else plan.mask.tile(tile.rows, tile.cols)
    for group in plan.groups:
        parts = [tile.cut(numbers[k]) for k in group.numbers]
        online = group.how == "logsumexp" and not group.small
        for at_first, at in enumerate(group.members):
            if at_first == 0 or online:
                value = _evaluate(group, tile, parts, out)
            dim = plan.dims[at]
            result = results[at][tile.rows if dim == 1 else tile.cols]
            if online:
                torch.logaddexp(result, _logsumexp_(value, dim), out=result)
            else:
                result += value.sum(dim)


def cotangent_of_tile(
    plan: Plan,
    tile: Tile,
    numbers: Sequence[Tensor],
    results: Sequence[Tensor],
    factors: Sequence[Tensor],
    gradients: Gradients,
) -> Tensor:
    """Return (n, m) the cotangent of the tile; what numbers get is added to their gradients."""
    out = None if plan.mask is None else plan.mask.tile(tile.rows, tile.cols)
    grad_sim: Tensor | None = None
    for group in plan.groups:
        parts = [tile.cut(numbers[k]) for k in group.numbers]
        needs = [gradients.numbers[k] is not None for k in group.numbers]
        slopes = group.term.slopes(tile.sim, parts, needs)
        shared = _weights(group, tile, parts, out, None)
        for at in group.members:
            weight, dim = shared, plan.dims[at]
            if group.how == "logsumexp" and not group.small:
                shift = tile.cut(results[at].unsqueeze(dim))
                weight = _weights(group, tile, parts, out, shift)
            factor = tile.cut(factors[at])
            grad_sim = _accumulate(grad_sim, weight, slopes, factor, tile)
            for k, slope in zip(group.numbers, slopes.numbers, strict=True):
                grad = gradients.numbers[k]
                if slope is not None and grad is not None:
                    part = slope if weight is None else torch.mul(slope, weight, out=tile.spare)
                    _add_to(grad, part, factor, dim, tile)
    assert grad_sim is not None
    return normal_(grad_sim)


def _value(term: Term, tile: Tile, parts: Sequence[Tensor]) -> Tensor:
    """Return φ in memory of its own, to be overwritten."""
    value = term.value(tile.sim, *parts, out=tile.value).expand_as(tile.sim)
    shared = value.data_ptr() == tile.sim.data_ptr() or not value.is_contiguous()
    return tile.value.copy_(value) if shared else value


def _evaluate(group: Group, tile: Tile, parts: Sequence[Tensor], out: Tensor | None) -> Tensor:
    """Return φ for a sum or an online logsumexp, exp(φ) for a small one, masked."""
    value = _value(group.term, tile, parts)
    if group.small:
        value = value.exp_()
    if out is not None:
        online = group.how == "logsumexp" and not group.small
        value = value.masked_fill_(out, -math.inf if online else 0.0)
    return value


def _logsumexp_(value: Tensor, dim: int) -> Tensor:
    """Return log-sum-exp, overwriting the argument."""
    peak = value.amax(dim, keepdim=True)
    peak.masked_fill_(peak == -math.inf, 0.0)
    return exp_(value.sub_(peak)).sum(dim).log_().add_(peak.squeeze(dim))


def _weights(
    group: Group, tile: Tile, parts: Sequence[Tensor], out: Tensor | None, shift: Tensor | None
) -> Tensor | None:
    """Return ∂result/∂φ on the tile up to its factor; None stands for 1."""
    if group.how == "sum":
        return None if out is None else torch.logical_not(out, out=tile.value)
    if shift is None and not group.small:
        return None
    value = _value(group.term, tile, parts)
    if shift is not None:
        value = exp_(value.sub_(shift.masked_fill(shift == -math.inf, 0.0)))
    else:
        value = value.exp_()
    return value if out is None else value.masked_fill_(out, 0.0)


def _accumulate(
    grad_sim: Tensor | None, weight: Tensor | None, slopes: Slopes, factor: Tensor, tile: Tile
) -> Tensor:
    """Return grad_sim + weight · ∂φ/∂s · factor."""
    vector = factor if slopes.vector is None else factor * slopes.vector
    slope = slopes.tile if slopes.tile is not None else weight
    if slope is None:
        return tile.total.copy_(vector) if grad_sim is None else grad_sim.add_(vector)
    if weight is not None and slope is not weight:
        slope = torch.mul(slope, weight, out=tile.spare)
    if grad_sim is None:
        return torch.mul(slope, vector, out=tile.total)
    return grad_sim.addcmul_(slope, vector)


def _add_to(grad: Tensor, part: Tensor, factor: Tensor, dim: int, tile: Tile) -> None:
    """Add part · factor to the gradient of a number, summed over what the number spans.

    The factor is the same along ``dim``.
    """
    if grad.shape[dim] > 1:
        part = torch.mul(part, factor, out=tile.spare)
    else:
        part = part.sum(dim, keepdim=True).mul_(factor)
    if grad.shape[0] > 1:
        grad[tile.rows] += part.sum(1, keepdim=True)
    elif grad.shape[1] > 1:
        grad[:, tile.cols] += part.sum(0, keepdim=True)
    else:
        grad += part.sum()
