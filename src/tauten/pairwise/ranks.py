"""The pair matrix over processes: each owns its rows, and columns come to it.

Every rank forms the tiles of its rows with all columns, so that reductions of rows are complete
where they are; the parts of those of columns go to the columns' owners, who merge them. Back, the
cotangents of columns are gathered with their results, the gradients of rows are complete, and those
of columns are summed at their owners.

``gather`` holds all of y on every rank; the first tiles are formed while it arrives. ``ring``
passes the blocks of y, and later their gradients, from rank to rank: no more than three blocks are
held, and the next is on its way while one is worked on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from tauten.messages import deal
from tauten.pairwise.dense import reduce_dense
from tauten.pairwise.exchange import Ranks, gather_columns
from tauten.pairwise.masks import PairMask
from tauten.pairwise.once import apply_once, first_only
from tauten.pairwise.plan import Gradients, Plan, make_plan
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.tiled import accumulate, propagate

Exchange = Literal["gather", "ring"]


def reduce_on_ranks(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None,
    ranks: Ranks,
    *,
    exchange: Exchange,
    tile: tuple[int, int] | None,
    cosine: bool,
) -> tuple[Tensor, ...]:
    """Compute each reduction of the whole S for this process's rows and columns.

    Args:
        x: (n_r, d) this rank's rows, possibly none.
        y: (m_r, d) this rank's columns.
        reductions: what to reduce; numbers of columns are those of all ranks, (1, M).
        mask: mask of these rows against the columns of all ranks.
        ranks: the processes.
        exchange: ``"gather"`` or ``"ring"``.
        tile: rows and columns of a tile; None for the dense reference, which gathers.
        cosine: whether rows are scaled to length 1.

    Returns:
        One (n_r,) or (m_r,) tensor for each reduction. Backward, cotangents of all ranks meet, so
        that a rank's gradients are those of the sum of what the ranks differentiate.
    """
    if tile is None:
        return _dense(x, y, reductions, mask, ranks, cosine=cosine)
    plan, numbers = make_plan(
        x, y, reductions, mask, tile=tile, cosine=cosine, cols=sum(ranks.cols)
    )
    results: tuple[Tensor, ...] = apply_once(_OnRanks, plan, ranks, exchange, x, y, *numbers)
    return results


def _dense(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None,
    ranks: Ranks,
    *,
    cosine: bool,
) -> tuple[Tensor, ...]:
    partials = reduce_dense(x, gather_columns(y, ranks), reductions, mask, cosine=cosine)
    results = []
    for partial, reduction in zip(partials, reductions, strict=True):
        if reduction.along == "rows":
            results.append(partial)
            continue
        of_all = _stack(partial, ranks)
        merged = of_all.sum(0) if reduction.how == "sum" else of_all.logsumexp(0)
        results.append(merged[ranks.own])
    return tuple(results)


class _OnRanks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        plan: Plan,
        ranks: Ranks,
        exchange: Exchange,
        x: Tensor,
        y: Tensor,
        *numbers: Tensor,
    ) -> tuple[Tensor, ...]:
        left = plan.side(x)
        results = plan.empty(left, sum(ranks.cols))
        bring = ranks.arrivals if exchange == "gather" else ranks.around
        arrived: list[Tensor] = []
        for owner, block in bring(y.detach()):
            first = ranks.columns_of(owner).start
            accumulate(plan, left, plan.side(block), first, numbers, results)
            if exchange == "gather" and owner != ranks.rank:
                arrived.append(block)
        plan.finish(results, [at for at, dim in enumerate(plan.dims) if dim == 1])
        _merge(plan, ranks, results)
        ctx.save_for_backward(x, y, *arrived, *numbers, *results)
        ctx.plan, ctx.ranks, ctx.exchange, ctx.kept = plan, ranks, exchange, len(arrived)
        return tuple(results)

    @staticmethod
    @first_only
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        ranks: Ranks = ctx.ranks
        x, y, *saved = ctx.saved_tensors
        arrived, saved = saved[: ctx.kept], saved[ctx.kept :]
        numbers, results = saved[: -len(plan.dims)], saved[-len(plan.dims) :]
        need_x, need_y, *needs = ctx.needs_input_grad[3:]
        left = plan.side(x)
        gradients = Gradients.zeros(plan, left if need_x else None, numbers, needs)
        results, of_cotangents = _of_all(plan, ranks, results, cotangents)
        factors = plan.factors(results, of_cotangents)

        like = y.new_empty(0, y.shape[1], dtype=plan.dtype)
        blocks: Iterable[tuple[int, Tensor]]
        if ctx.exchange == "gather":
            owners = [(ranks.rank - distance) % ranks.size for distance in range(ranks.size)]
            blocks = zip(owners, [y, *arrived], strict=True)
            sums = ranks.sums_sent(like) if need_y else None
        else:
            blocks, sums = ranks.around(y), ranks.sums_along(like) if need_y else None
        for owner, block in blocks:
            start = ranks.columns_of(owner).start
            for piece, cols in enumerate(ranks.pieces(owner)):
                right, first = plan.side(block[cols]), start + cols.start
                grad = None if sums is None else sums.room(owner, piece)
                propagate(plan, left, right, first, numbers, results, factors, gradients, grad)
                if sums is not None and grad is not None:
                    sums.add(owner, piece, grad)
        grad_y = None if sums is None else sums.arrived()
        return (
            None,
            None,
            None,
            None if gradients.x is None else left.gradient(gradients.x),
            None if grad_y is None else plan.side(y).gradient(grad_y),
            *gradients.numbers,
        )


def _merge(plan: Plan, ranks: Ranks, results: list[Tensor]) -> None:
    """Put this process's reductions of columns in the place of its part of all columns'."""
    cols = [at for at, dim in enumerate(plan.dims) if dim == 0]
    if not cols:
        return
    parts = deal(torch.stack([results[at] for at in cols], dim=1), ranks.cols)
    for part, at in zip(parts.unbind(2), cols, strict=True):
        results[at] = part.logsumexp(0) if plan.online(at) else part.sum(0)
    plan.finish(results, cols)


def _of_all(
    plan: Plan, ranks: Ranks, results: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the results and cotangents of all columns in the place of this process's."""
    cols = [at for at, dim in enumerate(plan.dims) if dim == 0]
    logs = [at for at in cols if plan.logarithmic(at)]
    of_all = list(results), list(cotangents)
    if cols:
        sent = [cotangents[at] for at in cols] + [results[at] for at in logs]
        whole = ranks.gather(torch.stack(sent, dim=1)).unbind(1)
        for column, at in zip(whole, cols, strict=False):
            of_all[1][at] = column
        for column, at in zip(whole[len(cols) :], logs, strict=True):
            of_all[0][at] = column
    return of_all


def _stack(shard: Tensor, ranks: Ranks) -> Tensor:
    """Stack this vector of every process, (W, M), differentiable."""
    stacked: Tensor = apply_once(_Stack, shard, ranks)
    return stacked


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.gather(shard.detach().unsqueeze(0), [1] * ranks.size)

    @staticmethod
    @first_only
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum_(cotangent.contiguous().clone())[ctx.ranks.rank], None
