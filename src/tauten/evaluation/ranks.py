"""Exact ranks of every matching candidate, computed in tiles.

The rank of a match is 1 + the number of candidates ahead of it. Ties are counted pessimistically:
a candidate that does not match the query and scores the same is ahead. "The same" allows for the
rounding of the dot product, 8 eps of the product of the largest norms (1e-6 for float32 rows of
length 1): two equal candidates may differ in the last bits only because of where they stand in the
matrix, and such a difference must not decide a rank. Collapsed embeddings thus rank last.

Shape suffixes: Q queries, C candidates, P matching pairs, b rows and c columns of one tile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.correspondence import Correspondence, correspondence, sides

FEW = 8
DIRECTIONS = ("x2y", "y2x")


@dataclass(frozen=True)
class QueryRanks:
    """Ranks of one direction's matching candidates; 1 is the top.

    Attributes:
        values: (P,) long; ranks of all matches, ascending within each query.
        offsets: (Q + 1,) long; query i owns ``values[offsets[i]:offsets[i + 1]]``.
        candidates: C, the number of candidates that were ranked.
    """

    values: Tensor
    offsets: Tensor
    candidates: int

    @property
    def best(self) -> Tensor:
        """(Q,) long: rank of the best match of each query."""
        return self.values[self.offsets[:-1]]

    def hit(self, k: int) -> Tensor:
        """(Q,) float64, 1 where any match is in the top k, else 0."""
        return (self.best <= k).double()

    def recall(self, k: int) -> Tensor:
        """(Q,) float64: the fraction of the query's matches that is in the top k."""
        return self._mean((self.values <= k).double())

    def average_precision(self) -> Tensor:
        """(Q,) float64: textbook AP, the mean over matches of (matches up to it) / (its rank)."""
        position = torch.arange(len(self.values)) - self.offsets[self._owners()] + 1
        return self._mean(position.double() / self.values.double())

    def metric(self, name: str) -> Tensor:
        """(Q,) float64 per-query values of "hit@K", "recall@K", "mAP" or "rank".

        Raises:
            ValueError: Another name.
        """
        kind, _, k = name.partition("@")
        if kind in ("hit", "recall") and k.isdigit():
            return self.hit(int(k)) if kind == "hit" else self.recall(int(k))
        if name == "mAP":
            return self.average_precision()
        if name == "rank":
            return self.best.double()
        raise ValueError(f"unknown metric {name!r}: use hit@K, recall@K, mAP or rank")

    def _owners(self) -> Tensor:
        lengths = self.offsets.diff()
        return torch.arange(len(lengths)).repeat_interleave(lengths)

    def _mean(self, values: Tensor) -> Tensor:
        lengths = self.offsets.diff()
        total = torch.zeros(len(lengths), dtype=torch.float64)
        return total.index_add_(0, self._owners(), values) / lengths


def ranks(
    x: Any,
    y: Any,
    y_of_x: Any,
    *,
    directions: Iterable[str] = DIRECTIONS,
    normalize: bool = True,
    tile: int = 2048,
    progress: bool = False,
) -> dict[str, QueryRanks]:
    """Rank every match of every query, exactly, ties counted pessimistically (see the module).

    Args:
        x: (N, d) embeddings of one side (image, video).
        y: (M, d) embeddings of the other (text).
        y_of_x: For each x the list of its y's, or an int vector (N,) for one each.
        directions: Which side queries: "x2y" (x queries, y are ranked), "y2x", or both.
        normalize: Rank by cosine; otherwise by the dot product of the rows as given.
        tile: Edge of the tiles; at most tile x tile scores exist at any time.
        progress: Show a progress bar (needs tqdm).

    Returns:
        For each direction the :class:`QueryRanks`, on the CPU.

    Raises:
        ValueError: Unequal d, NaN or inf (rows named), a correspondence that is out of range,
            repeated, or empty for a query, unknown direction, tile < 1.
    """
    x, y = sides(x, y, normalize)
    forward = correspondence(y_of_x, len(x), len(y))
    if tile < 1:
        raise ValueError(f"tile must be at least 1, not {tile}")
    out = {}
    for direction in directions:
        if direction not in DIRECTIONS:
            raise ValueError(f'unknown direction {direction!r}: use "x2y" or "y2x"')
        if direction == "x2y":
            forward.require_complete("x", direction)
            out[direction] = _rank_side(x, y, forward, tile, progress, direction)
        else:
            backward = forward.inverse()
            backward.require_complete("y", direction)
            out[direction] = _rank_side(y, x, backward, tile, progress, direction)
    return out


@torch.no_grad()
def _rank_side(
    query_Qd: Tensor,
    candidate_Cd: Tensor,
    pairs: Correspondence,
    tile: int,
    progress: bool,
    name: str,
) -> QueryRanks:
    pairs = Correspondence(
        pairs.offsets.to(query_Qd.device), pairs.targets.to(query_Qd.device), pairs.candidates
    )
    owners = torch.repeat_interleave(pairs.lengths)
    norms = query_Qd.norm(dim=1).max() * candidate_Cd.norm(dim=1).max()
    tolerance = 8 * torch.finfo(query_Qd.dtype).eps * norms
    scores, order = _sorted_scores(query_Qd, candidate_Cd, pairs, owners, tile)
    targets = pairs.targets[order]

    ahead = torch.zeros_like(targets)
    starts: Iterable[int] = range(0, len(query_Qd), tile)
    if progress:
        from tqdm.auto import tqdm

        starts = tqdm(starts, desc=f"ranks {name}", unit="tile row", leave=False)
    for start in starts:
        stop = min(start + tile, len(query_Qd))
        own = slice(int(pairs.offsets[start]), int(pairs.offsets[stop]))
        row = owners[own] - start
        place = torch.arange(own.start, own.stop, device=row.device) - pairs.offsets[owners[own]]
        width = int(pairs.lengths[start:stop].max())
        bar = query_Qd.new_full((stop - start, width), torch.inf)
        bar[row, place] = scores[own] - tolerance
        count = torch.zeros_like(bar, dtype=torch.long)
        for left in range(0, len(candidate_Cd), tile):
            with torch.autocast(query_Qd.device.type, enabled=False):
                sim_bc = query_Qd[start:stop] @ candidate_Cd[left : left + tile].T
            here = (targets[own] >= left) & (targets[own] < left + tile)
            sim_bc[row[here], targets[own][here] - left] = -torch.inf
            count += _count_at_least(sim_bc, bar)
        ahead[own] = count[row, place]
    position = torch.arange(len(targets), device=targets.device) - pairs.offsets[owners]
    return QueryRanks((ahead + position + 1).cpu(), pairs.offsets.cpu(), len(candidate_Cd))


def _sorted_scores(
    query_Qd: Tensor, candidate_Cd: Tensor, pairs: Correspondence, owners: Tensor, tile: int
) -> tuple[Tensor, Tensor]:
    chunks = [slice(start, start + tile) for start in range(0, len(owners), tile)]
    parts = [
        (query_Qd[owners[part]] * candidate_Cd[pairs.targets[part]]).sum(dim=1) for part in chunks
    ]
    score_P = torch.cat(parts)
    by_score = torch.argsort(score_P, descending=True, stable=True)
    order = by_score[torch.argsort(owners[by_score], stable=True)]
    return score_P[order], order


def _count_at_least(sim_bc: Tensor, bar_bk: Tensor) -> Tensor:
    """For each bar of a row (descending) the number of scores in that row that reach it."""
    width = bar_bk.shape[1]
    if width <= FEW:
        columns = [torch.count_nonzero(sim_bc >= bar_bk[:, [k]], dim=1) for k in range(width)]
        return torch.stack(columns, dim=1)
    rising = bar_bk.sort(dim=1).values
    reached = torch.searchsorted(rising, sim_bc, right=True)
    histogram = torch.zeros(len(bar_bk), width + 1, dtype=torch.long, device=bar_bk.device)
    histogram.scatter_add_(1, reached, torch.ones_like(reached))
    at_least_rising = histogram[:, 1:].flip(1).cumsum(1).flip(1)
    place = torch.argsort(torch.argsort(bar_bk, dim=1, stable=True), dim=1)
    return at_least_rising.gather(1, place)
