"""Ranks of each query's matches, and the metrics that follow from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.evaluation.checks import whole


@dataclass(frozen=True)
class QueryRanks:
    """Ranks of one direction's matching candidates; 1 is the top.

    Attributes:
        values: (P,) long; ranks of all matches, ascending within each query. With ties at their
            mean, float64, perhaps halves.
        offsets: (Q + 1,) long; query i owns ``values[offsets[i]:offsets[i + 1]]``.
        candidates: C, the number of candidates that were ranked.
    """

    values: Tensor
    offsets: Tensor
    candidates: int

    @property
    def best(self) -> Tensor:
        """(Q,) rank of the best match of each query."""
        return self.values[self.offsets[:-1]]

    def hit(self, k: int) -> Tensor:
        """Return (Q,) float64, 1 where any match is in the top k, else 0."""
        return (self.best <= whole(k, "k", 1)).double()

    def recall(self, k: int) -> Tensor:
        """Return (Q,) float64: the fraction of the query's matches that is in the top k."""
        return self._mean((self.values <= whole(k, "k", 1)).double())

    def average_precision(self) -> Tensor:
        """Return (Q,) float64: textbook AP, the mean over matches of (matches so far) / (rank)."""
        position = torch.arange(len(self.values)) - self.offsets[self._owners()] + 1
        return self._mean(position.double() / self.values.double())

    def reciprocal(self) -> Tensor:
        """Return (Q,) float64: 1 / rank of the best match."""
        return 1 / self.best.double()

    def metric(self, name: str) -> Tensor:
        """Return (Q,) float64 per-query values of "hit@K", "recall@K", "mAP", "MRR" or "rank".

        Raises:
            ValueError: Another name.
        """
        kind, _, k = str(name).partition("@")
        if kind in ("hit", "recall") and k.isdigit():
            return self.hit(int(k)) if kind == "hit" else self.recall(int(k))
        if name == "mAP":
            return self.average_precision()
        if name == "MRR":
            return self.reciprocal()
        if name == "rank":
            return self.best.double()
        raise ValueError(f"unknown metric {name!r}: use hit@K, recall@K, mAP, MRR or rank")

    def _owners(self) -> Tensor:
        lengths = self.offsets.diff()
        return torch.arange(len(lengths)).repeat_interleave(lengths)

    def _mean(self, values: Tensor) -> Tensor:
        lengths = self.offsets.diff()
        total = torch.zeros(len(lengths), dtype=torch.float64)
        return total.index_add_(0, self._owners(), values) / lengths
