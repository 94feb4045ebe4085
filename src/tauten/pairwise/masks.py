"""Masks of the pairs that a reduction leaves out, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PairMask:
    """The pairs to leave out of a reduction, without ever holding (N, M) of its own.

    Attributes:
        positive: (N,) long, the column of each row's positive.
        own: whether positives are left out (DCL, max-margin) or kept (InfoNCE).
        same: pairs of id vectors ((N,), (M,)); a pair whose ids agree in any of them is left out
            unless it is a positive.
        ignore: (N, M) bool, further pairs to leave out, positives too.
        diagonal: c if row i's positive is column c + i for all i, else None.
        labels: ((N,), (M,)); if given, the positives are the pairs of equal labels instead.
        itself: c if column c + i is row i itself, which is left out; None if the sides differ.
        only_positives: whether all but the positives is left out, for sums over positives.
    """

    positive: Tensor
    own: bool
    same: Sequence[tuple[Tensor, Tensor]] = ()
    ignore: Tensor | None = None
    diagonal: int | None = 0
    labels: tuple[Tensor, Tensor] | None = None
    itself: int | None = None
    only_positives: bool = False

    def tile(self, rows: slice, cols: slice) -> Tensor | None:
        """Return (n, m) bool, True where a pair is left out; None where the tile is whole."""
        if self.only_positives:
            assert self.labels is not None
            out: Tensor | None = _equal(self.labels, rows, cols).logical_not_()
        else:
            out = self._without_positives(rows, cols)
        if self.ignore is not None:
            part = self.ignore[rows, cols]
            out = part.clone() if out is None else out.logical_or_(part)
        if self.itself is None:
            return out
        return self._set(out, rows, cols, rows.start + self.itself)

    def _without_positives(self, rows: slice, cols: slice) -> Tensor | None:
        """Return the mask of ``same`` and the positives on a tile, or None for an empty one."""
        out: Tensor | None = None
        for ids in self.same:
            equal = _equal(ids, rows, cols)
            out = equal if out is None else out.logical_or_(equal)
        if out is None and not self.own:
            return None
        if self.labels is None:
            return self._with_single(out, rows, cols)
        positive = _equal(self.labels, rows, cols)
        if out is None:
            return positive
        return out.logical_or_(positive) if self.own else out.logical_and_(~positive)

    def _with_single(self, out: Tensor | None, rows: slice, cols: slice) -> Tensor | None:
        shift = self.diagonal
        if shift is not None and (
            rows.stop + shift <= cols.start or cols.stop <= rows.start + shift
        ):
            return out
        if shift is not None:
            if out is None:
                size = (rows.stop - rows.start, cols.stop - cols.start)
                out = torch.zeros(size, dtype=torch.bool, device=self.positive.device)
            out.diagonal(rows.start + shift - cols.start).fill_(self.own)
            return out
        column = self.positive[rows] - cols.start
        width = cols.stop - cols.start
        here = ((column >= 0) & (column < width)).unsqueeze(1)
        column = column.clamp(0, width - 1).unsqueeze(1)
        if out is None:
            out = torch.zeros(len(column), width, dtype=torch.bool, device=column.device)
        before = out.gather(1, column)
        return out.scatter_(1, column, before | here if self.own else before & ~here)

    def _set(self, out: Tensor | None, rows: slice, cols: slice, start: int) -> Tensor | None:
        """Return the same without the pairs (rows.start + k, start + k) that lie in the tile."""
        first = max(start, cols.start)
        count = min(start + rows.stop - rows.start, cols.stop) - first
        if count <= 0:
            return out
        if out is None:
            shape = (rows.stop - rows.start, cols.stop - cols.start)
            out = torch.zeros(shape, dtype=torch.bool, device=self.positive.device)
        at = torch.arange(count, device=out.device)
        out[at + (first - start), at + (first - cols.start)] = True
        return out


def _equal(ids: tuple[Tensor, Tensor], rows: slice, cols: slice) -> Tensor:
    return ids[0][rows, None] == ids[1][None, cols]
