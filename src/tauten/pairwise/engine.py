"""The choice between the dense engine, the tiled one, and the kernels of a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tauten.pairwise.exchange import Ranks
from tauten.pairwise.masks import PairMask
from tauten.pairwise.ranks import Exchange, reduce_on_ranks
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.tiled import reduce_tiled, tile_on
from tauten.pairwise.triton_sweeps import reduce_triton, unsupported
from tauten.pairwise.whole import Tile as Tile
from tauten.pairwise.whole import held, reduce_whole
from tauten.reads import FREE


def check_tile(tile: Tile) -> Tile:
    """Check that the tile setting is one of the known forms, and return it."""
    if isinstance(tile, str) and tile in ("auto", "dense", "triton"):
        return tile
    sides = (tile, tile) if isinstance(tile, int) else tile
    if (
        not isinstance(sides, tuple)
        or len(sides) != 2
        or not all(type(side) is int and 1 <= side < 2**31 for side in sides)
    ):
        raise ValueError(
            "tile must be 'auto', 'dense', 'triton', a positive int or (rows, columns), "
            f"got {tile!r}"
        )
    return sides


def reduce_pairs(
    x: Tensor,
    y: Tensor,
    reductions: Sequence[Reduction],
    mask: PairMask | None = None,
    *,
    tile: Tile = "auto",
    cosine: bool = False,
    ranks: Ranks | None = None,
    exchange: Exchange = "gather",
) -> tuple[Tensor, ...]:
    """Compute each reduction of S = x·yᵀ.

    Args:
        x: (N, d) of any floating type; the work is done in float32, or float64 if either is.
        y: (M, d).
        reductions: what to reduce.
        mask: pairs to leave out.
        tile: ``"dense"`` holds S; an int or (rows, columns) streams tiles of that size;
            ``"triton"`` streams blocks through kernels of a GPU; ``"auto"`` holds S up to
            1024 x 1024 pairs, on a GPU 4096 x 4096, and streams beyond, on a GPU by these kernels
            where they can.
        cosine: whether rows are scaled to length 1, so that s is the cosine.
        ranks: the processes of which each has some rows and columns of S; x and y are this one's,
            and numbers of columns are those of all, (1, M).
        exchange: how columns reach all ranks: ``"gather"`` or ``"ring"``.

    Returns:
        One (N,) or (M,) tensor for each reduction, of this process's rows or columns.

    Raises:
        ValueError: a ``tile`` that is none of these, or ``"triton"`` for what its kernels cannot
            do.
    """
    tile = check_tile(tile)
    if ranks is not None:
        if tile == "triton":
            raise ValueError(
                f"tile='triton' works in one process, and {ranks.size} share this pair matrix; use "
                "tile='auto', or ranks='local' in the loss"
            )
        sides = None if tile == "dense" else _sides(tile, x.device)
        return reduce_on_ranks(
            x, y, reductions, mask, ranks, exchange=exchange, tile=sides, cosine=cosine
        )
    if held(tile, len(x), len(y), x.device):
        return reduce_whole(x, y, reductions, mask, cosine=cosine)
    fit = tile == "auto" and x.device.type not in FREE
    if tile == "triton" or (fit and unsupported(x, y, reductions, mask) is None):
        return reduce_triton(x, y, reductions, mask, cosine=cosine)
    return reduce_tiled(x, y, reductions, mask, tile=_sides(tile, x.device), cosine=cosine)


def _sides(tile: Tile, device: torch.device) -> tuple[int, int]:
    if isinstance(tile, tuple):
        return tile
    return (tile, tile) if isinstance(tile, int) else tile_on(device)
