"""Count of the candidates that are ahead of each match, tile by tile.

Shape suffixes: Q queries, C candidates, P matching pairs, b rows and c columns of one tile, n its
rows or its columns, k the most matches that one of these has.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from tauten.evaluation.correspondence import Correspondence, rounding
from tauten.evaluation.embedding_rows import Rows, blocks_of
from tauten.evaluation.query_ranks import QueryRanks

Ties = Literal["pessimistic", "optimistic", "mean"]
FEW = 32
PASSES = 128
BYTES = 128


class Counter:
    """Count of the candidates ahead of each match of one direction, block by block.

    Attributes:
        offsets: (Q + 1,) long; query i owns the matches ``offsets[i]:offsets[i + 1]``.
        owners: (P,) long; the query of each match.
        targets: (P,) long; the candidate of each match, by descending bar within a query.
        bars: (P,) score from which another candidate is ahead of the match.
        ahead: (P,) long; the candidates found so far that are.
        candidates: C.
        exclude_self: whether candidate i is left out of query i.
    """

    def __init__(
        self, pairs: Correspondence, targets: Tensor, bars: Tensor, exclude_self: bool
    ) -> None:
        self.offsets, self.owners = pairs.offsets, torch.repeat_interleave(pairs.lengths)
        self.targets, self.bars, self.ahead = targets, bars, torch.zeros_like(targets)
        self.candidates, self.exclude_self = pairs.candidates, exclude_self

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        queries: Rows,
        candidates: Rows,
        pairs: Correspondence,
        ties: Ties,
        exclude_self: bool,
        tile: int,
    ) -> Counter:
        device = queries.source.device
        pairs = Correspondence(pairs.offsets.to(device), pairs.targets.to(device), len(candidates))
        owners = torch.repeat_interleave(pairs.lengths)
        parts = [
            (queries[owners[block]] * candidates[pairs.targets[block]]).sum(dim=1)
            for block in blocks_of(len(owners), tile)
        ]
        score_P = torch.cat(parts)
        norms_P = queries.norms(tile)[owners] * candidates.norms(tile)[pairs.targets]
        tolerance_P = rounding(norms_P)
        if ties == "pessimistic":
            bar_P = score_P - tolerance_P
        else:
            above = score_P + tolerance_P
            bar_P = torch.nextafter(above, torch.full_like(above, torch.inf))
        by_bar = torch.argsort(bar_P, descending=True, stable=True)
        order = by_bar[torch.argsort(owners[by_bar], stable=True)]
        return cls(pairs, pairs.targets[order], bar_P[order], exclude_self)

    def within(self, block: slice) -> tuple[slice, Tensor, Tensor]:
        """Return row and column in `bar_nk` of each match of a block of queries."""
        matched = slice(int(self.offsets[block.start]), int(self.offsets[block.stop]))
        index = torch.arange(matched.start, matched.stop, device=self.offsets.device)
        owner = self.owners[matched]
        return matched, owner - block.start, index - self.offsets[owner + 1]

    def bar_nk(self, block: slice) -> Tensor:
        """Return the bars of a block of queries, descending, padded in front with infinite ones."""
        matched, row, column = self.within(block)
        width = int(self.offsets[block.start : block.stop + 1].diff().max())
        bar = self.bars.new_full((block.stop - block.start, width), torch.inf)
        bar[row, column] = self.bars[matched]
        return bar

    def matches(self, block: slice, parts: list[slice]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield row and column of the matches in the tile of each part of the candidates."""
        matched, row, _ = self.within(block)
        target, order = self.targets[matched].sort()
        row = row[order]
        starts = torch.tensor([part.start for part in parts], device=target.device)
        first = [*torch.searchsorted(target, starts).tolist(), len(target)]
        for part, (left, right) in zip(parts, pairwise(first), strict=True):
            yield row[left:right], target[left:right] - part.start

    def add(self, block: slice, count_nk: Tensor) -> None:
        """Add counts of candidates that are ahead, laid out as :meth:`bar_nk`."""
        matched, row, column = self.within(block)
        self.ahead[matched] += count_nk[row, column]

    def ranks(self) -> QueryRanks:
        """Return the ranks once all candidates are counted."""
        index = torch.arange(len(self.ahead), device=self.ahead.device)
        position = index - self.offsets[self.owners]
        ranked = self.candidates - int(self.exclude_self)
        return QueryRanks((self.ahead + position + 1).cpu(), self.offsets.cpu(), ranked)


def count_at_least(sim_bc: Tensor, bar_nk: Tensor, by_column: bool = False) -> Tensor:
    """Return how many scores of a row, or column, reach each of its descending bars: (n, k).

    Where few scores reach the lowest bar, the others are compared to these alone.
    """
    n, k = bar_nk.shape
    lowest = bar_nk[:, -1]
    reaches_bc = sim_bc >= (lowest if by_column else lowest[:, None])
    reaching = _count_true(reaches_bc, by_column)
    if k == 1:
        return reaching[:, None]
    rising = bar_nk.flip(1)
    pairs, total = sim_bc.numel(), int(reaching.sum())
    if total * PASSES <= pairs * k and total * k <= pairs * 4:
        row, column = reaches_bc.nonzero(as_tuple=True)
        owner, score = column if by_column else row, sim_bc[row, column]
        reached = torch.searchsorted(rising[owner], score[:, None], right=True)[:, 0]
        histogram = torch.bincount(owner * (k + 1) + reached, minlength=n * (k + 1))
        return histogram.view(n, k + 1).flip(1)[:, :k].cumsum(1)
    sim_nm = sim_bc.T.contiguous() if by_column else sim_bc
    if k <= FEW:
        return torch.stack([_count_true(sim_nm >= bar_nk[:, [j]]) for j in range(k)], dim=1)
    reached = torch.searchsorted(rising, sim_nm, right=True)
    histogram = torch.zeros(n, k + 1, dtype=torch.long, device=bar_nk.device)
    histogram.scatter_add_(1, reached, torch.ones_like(reached))
    return histogram.flip(1)[:, :k].cumsum(1)


def _count_true(mask_bc: Tensor, by_column: bool = False) -> Tensor:
    """Return (b,) or (c,) long: how many are true in each row, or column.

    Eight booleans are one integer; the sum of `BYTES` of these has a sum in each of its bytes.
    """
    b, c = mask_bc.shape
    if by_column:
        word = _padded(mask_bc, -b % BYTES, -c % 8).view(torch.int64)
        return word.view(-1, BYTES, word.shape[1]).sum(dim=1).view(torch.uint8).sum(dim=0)[:c]
    word = _padded(mask_bc, 0, -c % (8 * BYTES)).view(torch.int64)
    return word.view(b, -1, BYTES).sum(dim=2).view(torch.uint8).sum(dim=1)


def _padded(mask_bc: Tensor, rows: int, columns: int) -> Tensor:
    return functional.pad(mask_bc, (0, columns, 0, rows)) if rows or columns else mask_bc
