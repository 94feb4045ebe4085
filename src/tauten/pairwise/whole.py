"""The whole pair matrix with derivatives in closed form: the fast way where S fits in memory.

Each φ is evaluated once for all reductions that share it, and what the backward pass needs of it
is kept, so that S is formed once. Second derivatives follow from the readable reference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tauten.pairwise.dense import reduce_dense
from tauten.pairwise.masks import PairMask
from tauten.pairwise.normal import SAFE_EXPONENT, multiplied_, normal_, raised, scaled
from tauten.pairwise.once import gradients, in_closed_form, jvp, transformed
from tauten.pairwise.reduction import Reduction, Shared, compute_dtype, shared
from tauten.pairwise.sides import as_reduced
from tauten.pairwise.terms import Term
from tauten.pairwise.units import Units
from tauten.reads import FREE

Tile = int | tuple[int, int] | Literal["auto", "dense", "triton"]

#: pairs up to which the whole matrix is held when the choice is ours, on the CPU and on a GPU
DENSE_PAIRS, DENSE_PAIRS_ON_GPU = 1024 * 1024, 4096 * 4096


def held(tile: Tile, rows: int, cols: int, device: torch.device) -> bool:
    """Return whether one process holds the whole matrix."""
    most = DENSE_PAIRS if device.type in FREE else DENSE_PAIRS_ON_GPU
    return tile == "dense" or (tile == "auto" and rows * cols <= most)


def reduce_whole(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None = None,
    *,
    cosine: bool = False,
    units: Units | None = None,
) -> tuple[Tensor, ...]:
    """Return each reduction of S = x·yᵀ, with S (N, M) in memory.

    The arguments are those of :func:`reduce_pairs`; ``units`` has the same x and y where their rows
    are of length 1 already, and keeps S for the next reductions of them.
    """
    dtype = compute_dtype(x, y) if units is None else x.dtype
    shares, numbers = shared(reductions)
    if torch.compiler.is_compiling() or transformed() or not _closed(shares, numbers, dtype):
        return reduce_dense(x, y, reductions, mask, cosine=cosine)
    if torch.is_autocast_enabled(x.device.type):
        with torch.autocast(x.device.type, enabled=False):
            return reduce_whole(x, y, reductions, mask, cosine=cosine, units=units)
    if cosine or x.dtype != dtype or y.dtype != dtype:
        x, y = as_reduced(x, y, cosine=cosine)
    limit = 1.0 if cosine or units is not None else None
    work = _Work(reductions, shares, mask, limit, units)
    results: tuple[Tensor, ...] = _Whole.apply(work, x, y, *numbers)  # type: ignore[no-untyped-call]
    return results


def _closed(shares: Sequence[Shared], numbers: Sequence[Tensor], dtype: torch.dtype) -> bool:
    """Return whether all derivatives are known in closed form, or none is asked for."""
    differentiated = torch.is_grad_enabled()
    for share in shares:
        if type(share.term).slopes is Term.slopes and (differentiated or share.how != "sum"):
            return False
    return all([number.dtype == dtype and number.dim() == 2 for number in numbers])


class _Work(NamedTuple):
    reductions: Sequence[Reduction]
    shares: Sequence[Shared]
    mask: PairMask | None
    limit: float | None
    units: Units | None

    def sim(self, x: Tensor, y: Tensor) -> Tensor:
        """Return S, formed once."""
        if self.units is None:
            return torch.mm(x, y.T)
        if self.units.sim is None:
            self.units.sim = torch.mm(x, y.T)
        return self.units.sim

    def small(self, share: Shared, numbers: Sequence[Tensor], size: int) -> bool:
        """Return whether exp(φ) can be summed as it is; a GPU is not asked, which would wait."""
        if self.limit is None or numbers[0].device.type not in FREE:
            return False
        bound = share.term.bound(self.limit, numbers)
        return bound is not None and bound <= SAFE_EXPONENT - math.log(max(size, 1))


class _Out:
    """The pairs of S that are left out."""

    def __init__(self, mask: PairMask | None, rows: int, cols: int) -> None:
        self.diagonal: int | None = None
        self.out: Tensor | None = None
        #: whether a row or column may have no pair at all
        self.gaps = False
        if mask is None:
            return
        single = mask.own and mask.diagonal is not None and mask.labels is None
        if single and not mask.same and mask.ignore is None and mask.itself is None:
            self.diagonal = mask.diagonal
            self.gaps = rows < 2 or cols < 2
        else:
            self.out = mask.tile(slice(0, rows), slice(0, cols))
            self.gaps = True

    def fill(self, values: Tensor, number: float) -> Tensor:
        """Return the values (N, M), with a number in the place of what is left out."""
        if self.diagonal is not None:
            values.diagonal(self.diagonal).fill_(number)
        elif self.out is not None:
            values.masked_fill_(self.out, number)
        return values


def _back(ctx: Any, cotangents: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    work, out = ctx.work, ctx.out
    x, y, sim, *saved = ctx.saved_tensors
    numbers, kept = saved[: ctx.count], iter(saved[ctx.count :])
    cotangents, scale = scaled(cotangents)
    grads: list[Tensor | None] = [None] * ctx.count
    grad_sim: Tensor | None = None
    for share, small in zip(work.shares, ctx.smalls, strict=True):
        needs = [ctx.needs_input_grad[3 + k] for k in share.numbers]
        slopes = share.term.slopes(sim, [numbers[k] for k in share.numbers], needs)
        learned = any(needs)
        for weights, factor in _weighted(ctx, share, small, kept, cotangents):
            if slopes.vector is not None and not learned:
                factor = factor * slopes.vector
            tile = weights if slopes.tile is None else slopes.tile
            if weights is not None and slopes.tile is not None:
                tile = weights * slopes.tile
            if grad_sim is not None and not learned and tile is not None:
                grad_sim.addcmul_(tile, factor)
                continue
            part = factor.expand_as(sim).clone() if tile is None else tile * factor
            for k, slope in zip(share.numbers, slopes.numbers, strict=True):
                if slope is None:
                    continue
                if slope is slopes.tile:
                    moved = part
                elif slopes.tile is None:
                    moved = slope * part
                else:
                    moved = slope * factor if weights is None else slope * weights * factor
                grad = out.fill(moved, 0.0).sum_to_size(numbers[k].shape)
                before = grads[k]
                grads[k] = grad if before is None else before + grad
            if slopes.vector is not None and learned:
                part.mul_(slopes.vector)
            grad_sim = part if grad_sim is None else grad_sim.add_(part)
    assert grad_sim is not None
    grad_sim = normal_(out.fill(grad_sim, 0.0))
    of_x = torch.mm(grad_sim, y) if ctx.needs_input_grad[1] else None
    of_y = torch.mm(grad_sim.T, x) if ctx.needs_input_grad[2] else None
    return None, *multiplied_([of_x, of_y, *grads], scale)


def _weighted(
    ctx: Any, share: Shared, small: bool, kept: Iterator[Tensor], cotangents: Sequence[Tensor]
) -> list[tuple[Tensor | None, Tensor]]:
    """Return pairs of weights (N, M), or None for 1, and factors: their product is ∂loss/∂φ."""
    whole = next(kept) if small else None
    found: list[tuple[Tensor | None, Tensor]] = []
    for at in share.members:
        factor = cotangents[at].unsqueeze(ctx.dims[at])
        weights = whole
        if share.how == "logsumexp":
            weights = next(kept) if whole is None else whole
            total = next(kept)
            factor = factor / total
            if ctx.out.gaps:
                factor = factor.masked_fill_(total == 0, 0.0)
        if found and found[0][0] is weights:
            factor = found.pop()[1] + factor
        found.append((weights, factor))
    return found


def _formula(ctx: Any, cotangents: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients by the readable reference."""
    work = ctx.work
    x, y, _, *saved = ctx.saved_tensors
    used = {at: share.numbers for share in work.shares for at in share.members}

    def plain(x: Tensor, y: Tensor, *numbers: Tensor) -> tuple[Tensor, ...]:
        reductions = [
            reduction._replace(numbers=tuple(numbers[k] for k in used[at]))
            for at, reduction in enumerate(work.reductions)
        ]
        return reduce_dense(x, y, reductions, work.mask)

    inputs = (x, y, *saved[: ctx.count])
    return None, *gradients(plain, inputs, ctx.needs_input_grad[1:], cotangents)


class _Whole(torch.autograd.Function):
    jvp = staticmethod(jvp)
    backward = in_closed_form(_back, _formula)

    @staticmethod
    def forward(
        ctx: Any, work: _Work, x: Tensor, y: Tensor, *numbers: Tensor
    ) -> tuple[Tensor, ...]:
        sim = work.sim(x, y)
        out = _Out(work.mask, *sim.shape)
        dims = [1 if reduction.along == "rows" else 0 for reduction in work.reductions]
        results: list[Tensor] = [sim] * len(dims)
        kept: list[Tensor] = []
        smalls = []
        for share in work.shares:
            parts = [numbers[k] for k in share.numbers]
            value = share.term.value(sim, *parts)
            if share.how == "sum":
                smalls.append(False)
                out.fill(value, 0.0)
                for at in share.members:
                    results[at] = value.sum(dims[at])
                continue
            small = work.small(share, parts, max(sim.shape))
            smalls.append(small)
            out.fill(value, -math.inf)
            if small:
                kept.append(value.exp_())
            for at in share.members:
                if small:
                    total = value.sum(dims[at], keepdim=True)
                    results[at] = total.log().view(-1)
                    kept.append(total)
                else:
                    weights, peak = raised(value, dims[at], gaps=out.gaps)
                    total = weights.sum(dims[at], keepdim=True)
                    results[at] = total.log().add_(peak).view(-1)
                    kept += [weights, total]
        ctx.work, ctx.out, ctx.smalls, ctx.dims, ctx.count = work, out, smalls, dims, len(numbers)
        ctx.save_for_backward(x, y, sim, *numbers, *kept)
        return tuple(results)
