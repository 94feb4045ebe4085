"""Views of the same samples, one after the other, of which some may be missing.

Shapes: M views of N samples, R rows in all, the views' rows in the order of their samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Stack:
    """The order of the rows of a batch, which are views of samples.

    Attributes:
        views: M.
        samples: N.
        present: (M, N) bool, which views there are; None if all.
    """

    views: int
    samples: int
    present: Tensor | None = None

    def rows(self, views: Sequence[Tensor]) -> Tensor:
        """Return (R, ...) the rows that are present, from M times (N, ...)."""
        if self.present is None:
            return torch.cat(list(views))
        return torch.cat([view[there] for view, there in zip(views, self.present, strict=True)])

    def spread(self, values: Tensor, missing: float) -> Tensor:
        """Return (M, N, ...) of values (R, ...), with a number in the place of what is missing."""
        shape = (self.views, self.samples, *values.shape[1:])
        if self.present is None:
            return values.reshape(shape)
        at = self.present.flatten().nonzero().squeeze(1)
        return values.new_full(shape, missing).flatten(0, 1).index_copy(0, at, values).view(shape)

    def of_samples(self, values: Tensor) -> Tensor:
        """Return (N,) of values (R,), each sample's at the first of its views; 0 without any."""
        if self.present is None:
            return values[: self.samples]
        first = self.present.int().argmax(0, keepdim=True)
        return self.spread(values, 0.0).gather(0, first).squeeze(0)

    def of_rows(self, values: Tensor) -> Tensor:
        """Return (R,) of numbers of samples, (N,)."""
        return self.rows([values] * self.views)

    def each(self, values: Tensor) -> tuple[Tensor, ...]:
        """Return the rows of each view, M times (n, ...), of values (R, ...)."""
        counts = [self.samples] * self.views
        if self.present is not None:
            counts = self.present.sum(1).tolist()
        parts: tuple[Tensor, ...] = values.split(counts)
        return parts

    def placed(self, view: int, values: Tensor) -> Tensor:
        """Return (N,) of the values of the rows of a view; 0 where it is missing or infinite."""
        if self.present is None:
            return values
        at = self.present[view].nonzero().squeeze(1)
        finite = values.masked_fill(torch.isneginf(values), 0.0)
        return values.new_zeros(self.samples).index_copy(0, at, finite)

    @property
    def paired(self) -> Tensor | None:
        """(N,) bool, the samples with at least two views; None if all."""
        return None if self.present is None else self.present.sum(0) > 1

    def lacking(self, a: int, b: int) -> Tensor | None:
        """Return (N,) bool, the samples with two views or more but without one of these two."""
        if self.present is None or self.paired is None:
            return None
        return ~(self.present[a] & self.present[b]) & self.paired
