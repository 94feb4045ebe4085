"""The two sweeps over the pair matrix with Triton kernels, on a GPU.

S is taken in blocks of a few thousand rows and columns. What :mod:`tauten.pairwise.tiled` does to a
tile in many passes is one kernel here: the numbers, the mask, φ, its slopes, and the sums along
rows and along columns. Embeddings of 16 bits are multiplied inside that kernel, with exact products
and float32 sums; others by torch in float32, as tiled does. Backward, the kernel writes the
cotangent of the block, from which one product each gives the gradients of x and of y. Every sum is
added up in a fixed order.

triton is imported by the first call that uses it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from tauten.pairwise.masks import PairMask
from tauten.pairwise.plan import Gradients, Plan, make_plan
from tauten.pairwise.reduction import Reduction, compute_dtype
from tauten.pairwise.sides import Side
from tauten.pairwise.tiled import sweep
from tauten.pairwise.triton_blocks import GRADIENT_TILE, TERMS, Block, Blocks, dense_rows, tiles

#: rows and columns of a block, of which the backward sweep holds one in float32
BLOCK = (8192, 8192)

#: how many blocks along each side the forward sweep takes at once where it holds none
REACH = 4

#: how a kernel is compiled: warps of a program, and how many loads it has under way
WARPS, STAGES = 4, 3


def unsupported(
    x: Tensor, y: Tensor, reductions: Sequence[Reduction], mask: PairMask | None
) -> str | None:
    """Return why the kernels cannot reduce this, or None where they can."""
    if not _installed():
        return "triton is not installed: pip install 'tauten[triton]'"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if x.device.type != "cuda" and not interpreted:
        return f"the embeddings are on {x.device}, and it needs CUDA"
    if x.device.type == "cuda" and not interpreted:
        if torch.version.hip is not None:
            return "the device is AMD's, and it needs NVIDIA's"
        if torch.cuda.get_device_capability(x.device) < (8, 0):
            return f"{torch.cuda.get_device_name(x.device)} has a compute capability below 8.0"
    if compute_dtype(x, y) != torch.float32:
        return "float64 embeddings, and it reduces in float32"
    for reduction in reductions:
        if type(reduction.term) not in TERMS:
            known = ", ".join(term.__name__ for term in TERMS)
            return f"the term {type(reduction.term).__name__}; it has {known}"
    for along in ("rows", "cols"):
        count = sum(reduction.along == along for reduction in reductions)
        if count > 1:
            return f"{count} reductions along {along}, and it does one"
    if mask is not None and (mask.itself is not None or mask.only_positives):
        return "sets of one side, or labels= with ignore=, which it does not know"
    return None


@cache
def _installed() -> bool:
    return find_spec("triton") is not None


def reduce_triton(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None = None,
    *,
    block: tuple[int, int] = BLOCK,
    cosine: bool = False,
) -> tuple[Tensor, ...]:
    """Compute each reduction of S = x·yᵀ, by Triton kernels.

    The arguments are those of :func:`reduce_pairs`; ``block`` is how many rows and columns of S are
    taken at once.

    Returns:
        One (N,) or (M,) tensor for each reduction, differentiable once in x, y and the numbers.

    Raises:
        ValueError: what :func:`unsupported` says.
    """
    reason = unsupported(x, y, reductions, mask)
    if reason is not None:
        raise ValueError(f"tile='triton' does not do this: {reason}; use tile='auto'")
    plan, numbers = make_plan(x, y, reductions, mask, tile=block, cosine=cosine)
    return sweep(plan, (accumulate, propagate), x, y, numbers)


def accumulate(
    plan: Plan,
    left: Side,
    right: Side,
    first: int,
    numbers: Sequence[Tensor],
    results: Sequence[Tensor],
) -> None:
    """Add the pairs of these rows with a block of columns to the results.

    The arguments are those of :func:`tauten.pairwise.tiled.accumulate`.
    """
    blocks = Blocks(plan, left, right, first, numbers)
    room = None if blocks.fused else blocks.room()
    for block in blocks.cut(REACH if blocks.fused else 1):
        arguments = blocks.arguments(block, _view(room, block))
        for name, part in blocks.parts.items():
            partials = None if part is None else block.partials(part.dim, left.vectors)
            arguments[f"{name}_partial"] = partials
        _launch("reduce_kernel", block.grid, arguments, left.vectors)
        for name, part in blocks.parts.items():
            if part is None:
                continue
            partials, result = arguments[f"{name}_partial"], results[part.at][block.along(part.dim)]
            if part.how == "logsumexp":
                torch.logaddexp(result, partials.logsumexp(0), out=result)
            else:
                result += partials.sum(0)


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

    The arguments are those of :func:`tauten.pairwise.tiled.propagate`.
    """
    blocks = Blocks(plan, left, right, first, numbers)
    room = blocks.room()
    for block in blocks.cut(1):
        grad_sim = _view(room, block)
        assert grad_sim is not None
        arguments = blocks.arguments(block, grad_sim)
        for name, part in blocks.parts.items():
            along = None if part is None else block.along(part.dim)
            for what, vectors in (("result", results), ("factor", factors)):
                arguments[f"{name}_{what}"] = (
                    None if part is None else vectors[part.at].flatten()[along].contiguous()
                )
        sums = _rooms_of_numbers(blocks, block, gradients, arguments)
        _launch("cotangent_kernel", block.grid, arguments, left.vectors)
        for place, partials in sums:
            _add_to(gradients.numbers[place], partials, blocks.axes[place], block)
        if gradients.x is not None:
            _multiply(blocks, grad_sim, right, block.own, gradients.x[block.rows])
        if grad_y is not None:
            _multiply(blocks, grad_sim.T, left, block.rows, grad_y[block.own])


def _view(room: Tensor | None, block: Block) -> Tensor | None:
    n, m = block.shape
    return None if room is None else room[: n * m].view(n, m)


def _rooms_of_numbers(
    blocks: Blocks, block: Block, gradients: Gradients, arguments: dict[str, Any]
) -> list[tuple[int, Tensor]]:
    """Return arguments for what each tile gives to the numbers' gradients, and whose they are."""
    sums = []
    for name, part in blocks.parts.items():
        places = () if part is None else part.numbers
        for at, letter in enumerate("ab"):
            room = None
            if at < len(places) and gradients.numbers[places[at]] is not None:
                axis = blocks.axes[places[at]]
                room = block.partials(0 if axis == 1 else 1, blocks.left.vectors)
                sums.append((places[at], room))
            arguments[f"{name}_grad_{letter}"] = room
    return sums


def _add_to(grad: Tensor | None, partials: Tensor, axis: int, block: Block) -> None:
    """Add what the tiles gave to the gradient of a number."""
    assert grad is not None
    if axis == 0:
        grad[block.rows] += partials.sum(0).unsqueeze(1)
    elif axis == 1:
        grad[:, block.cols] += partials.sum(0)
    else:
        grad += partials.sum()


def _multiply(blocks: Blocks, weight: Tensor, side: Side, which: slice, total: Tensor) -> None:
    """Add weight @ side[which] to total."""
    if not blocks.fused:
        total.addmm_(weight, side.rows(which))
        return
    (n, k), d = weight.shape, total.shape[1]
    vectors = dense_rows(side.vectors[which])
    grid = (tiles(n, GRADIENT_TILE["ROWS"]), tiles(d, GRADIENT_TILE["COLS"]))
    arguments = {
        "weight": weight,
        "scale": None if side.inverse is None else side.inverse[which],
        "vectors": vectors,
        "total": total,
        "n": n,
        "k": k,
        "d": d,
        "weight_row_stride": weight.stride(0),
        "weight_col_stride": weight.stride(1),
        "vectors_stride": vectors.stride(0),
        "total_stride": total.stride(0),
        **GRADIENT_TILE,
    }
    _launch("product_kernel", grid, arguments, total)


def _launch(kernel: str, grid: tuple[int, ...], arguments: dict[str, Any], at: Tensor) -> None:
    from tauten.pairwise import triton_kernels

    with torch.cuda.device(at.device) if at.is_cuda else nullcontext():
        getattr(triton_kernels, kernel)[grid](**arguments, num_warps=WARPS, num_stages=STAGES)
