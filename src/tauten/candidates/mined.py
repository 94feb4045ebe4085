"""Hard negatives mined from the data itself, such as with the model of the last epoch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tauten.checks import finite, whole
from tauten.ids import check_index, check_stored
from tauten.pairwise.masks import PairMask
from tauten.pairwise.nearest import topk_pairs
from tauten.pairwise.sides import compute_dtype, pair_similarity, within_range


@torch.no_grad()
def mined_negatives(
    x: Tensor,
    y: Tensor,
    k: int,
    y_of_x: Tensor | None = None,
    *,
    skip: int = 0,
    share: float | None = None,
    margin: float = 0.0,
    same: Sequence[tuple[Tensor, Tensor]] = (),
) -> tuple[Tensor, Tensor]:
    """Return for each row of x the k most similar rows of y that are not its positive.

    The most similar may match without being marked as such. So the first ``skip`` can be left out,
    and all that come too near the positive: with ``share`` or ``margin`` only those with s_ij <=
    share·s_i⁺ − margin are taken, as NV-Retriever does (Moreira et al. 2024, share 0.95). Pairs
    are formed in tiles, never all at once.

    Args:
        x: (N, d) embeddings of all anchors.
        y: (M, d) embeddings of all candidates.
        k: negatives of each anchor.
        y_of_x: (N,) long, the row of y that belongs to each row of x; row i to row i by default.
        skip: how many of the most similar are left out.
        share: in (0, 1]; None for no limit by it.
        margin: >= 0, in units of the cosine.
        same: pairs of id vectors ((N,), (M,)); pairs that agree in one are no negatives, such as
            other captions of the same picture.

    Returns:
        (N, k) long rows of y, the hardest first, −1 where an anchor has no more; and their cosines,
        −inf there.

    Raises:
        ValueError: shapes that do not fit, numbers out of range, embeddings that are not finite.
    """
    k, skip, margin = whole("k", k, 1), whole("skip", skip, 0), finite("margin", margin)
    if margin < 0 or (share is not None and not 0 < finite("share", share) <= 1):
        raise ValueError(f"margin must be >= 0 and share in (0, 1], got {margin!r} and {share!r}")
    for name, side in (("x", x), ("y", y)):
        if not isinstance(side, Tensor) or not side.is_floating_point():
            got = side.dtype if isinstance(side, Tensor) else type(side).__name__
            raise ValueError(f"{name} must be a tensor of floating numbers, got {got}")
    if x.dim() != 2 or y.dim() != 2 or x.shape[1] != y.shape[1] or not y.numel():
        raise ValueError(
            f"x and y must be (N, d) and (M, d), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    for name, side in (("x", x), ("y", y)):
        check_stored(f"embeddings {name}", side, name)
    x, y = within_range(x), within_range(y)
    at = torch.arange(len(x), device=x.device)
    if y_of_x is not None:
        at = check_index(y_of_x, "y_of_x").to(x.device)
    if len(at) != len(x) or (len(at) and not 0 <= int(at.min()) <= int(at.max()) < len(y)):
        raise ValueError(f"y_of_x must be ({len(x)},) rows of y in 0 .. {len(y) - 1}")
    wanted = f"same= must be a list of pairs of id vectors, ({len(x)},) and ({len(y)},)"
    if not isinstance(same, (tuple, list)) or any(
        not isinstance(pair, (tuple, list)) or len(pair) != 2 for pair in same
    ):
        raise ValueError(f"{wanted}, such as [(image_ids_of_x, image_ids_of_y)]")
    ids = [
        (check_index(a, "same=").to(x.device), check_index(b, "same=").to(x.device))
        for a, b in same
    ]
    if any(len(a) != len(x) or len(b) != len(y) for a, b in ids):
        raise ValueError(f"{wanted}, got {[(len(a), len(b)) for a, b in ids]}")
    limits = None
    if share is not None or margin:
        limits = (share or 1.0) * pair_similarity(x, y, at, cosine=True) - margin
    rows, count = torch.arange(len(x), device=x.device), min(len(y), skip + k)
    columns = torch.full((len(x), k), -1, device=x.device)
    cosines = torch.full((len(x), k), -torch.inf, device=x.device, dtype=compute_dtype(x, y))
    while len(rows):
        mask = PairMask(at[rows], own=True, same=[(a[rows], b) for a, b in ids], diagonal=None)
        similar, places = topk_pairs(x[rows], y, count, mask)
        taken = places >= 0
        if limits is not None:
            taken &= similar <= limits[rows, None]
        taken[:, :skip] = False
        order = taken.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :k]
        good = taken.gather(1, order)
        width = order.shape[1]
        columns[rows, :width] = places.gather(1, order).where(good, -1)
        cosines[rows, :width] = similar.gather(1, order).where(good, -torch.inf)
        ended = (good.sum(1) == k) | (places[:, -1] < 0)
        rows = rows[~ended] if count < len(y) else rows[:0]
        count = min(len(y), 4 * count)
    return columns, cosines
