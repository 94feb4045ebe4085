"""The most similar columns of each row, without the pair matrix.

Shapes: N rows, M columns, k columns kept of each row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.pairwise.masks import PairMask
from tauten.pairwise.reduction import compute_dtype
from tauten.pairwise.sides import Side

#: rows and columns of a tile
_ROWS, _COLS = 512, 8192


@torch.no_grad()
def topk_pairs(
    x: Tensor, y: Tensor, k: int, mask: PairMask | None = None, *, cosine: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the k most similar rows of y for each row of x, without a gradient.

    Tiles of the pair matrix are formed one after the other, and only the best k are kept.

    Args:
        x: (N, d).
        y: (M, d).
        k: how many, 1 <= k <= M.
        mask: pairs to leave out, such as positives, own rows, or duplicates.
        cosine: whether rows are scaled to length 1 first.

    Returns:
        Similarities (N, k), descending, and columns (N, k). A row that has fewer than k candidates
        left has -inf and -1 in their place.

    Raises:
        ValueError: k out of range, or sides of different width.
    """
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x and y must be (N, d) and (M, d), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(y):
        raise ValueError(f"k must be a whole number from 1 to the {len(y)} rows of y, got {k!r}")
    dtype = compute_dtype(x, y)
    left, right = Side(x, dtype, cosine=cosine), Side(y, dtype, cosine=cosine)
    values, columns = [], []
    for top in range(0, len(x), _ROWS):
        rows = slice(top, min(top + _ROWS, len(x)))
        best, at = _of_rows(left.rows(rows), rows, right, k, mask)
        values.append(best)
        columns.append(at)
    if not values:
        return x.new_empty(0, k, dtype=dtype), torch.empty(0, k, dtype=torch.long, device=x.device)
    return torch.cat(values), torch.cat(columns)


def _of_rows(
    block: Tensor, rows: slice, right: Side, k: int, mask: PairMask | None
) -> tuple[Tensor, Tensor]:
    best = block.new_full((len(block), k), -torch.inf)
    at = torch.full((len(block), k), -1, device=block.device)
    for start in range(0, len(right), _COLS):
        cols = slice(start, min(start + _COLS, len(right)))
        tile = block @ right.rows(cols).T
        out = None if mask is None else mask.tile(rows, cols)
        if out is not None:
            tile.masked_fill_(out, -torch.inf)
        some, where = tile.topk(min(k, tile.shape[1]), dim=1)
        joined = torch.cat([best, some], dim=1)
        places = torch.cat([at, where + start], dim=1)
        best, chosen = joined.topk(k, dim=1)
        at = places.gather(1, chosen)
    return best, at.masked_fill(best.isneginf(), -1)
