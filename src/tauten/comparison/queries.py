"""Ranks of every query of pairs, from which every metric of a cell follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tauten.comparison.scores import ALL, GROUPS, Scores
from tauten.evaluation import ranks
from tauten.files import opened_arrays, replacing

__all__ = ["ALL", "GROUPS", "KS", "METRICS", "Queries"]

KS = (1, 5, 10)
#: metrics of a query: an x together with its y's
METRICS = (
    "mean_recall",
    *(f"hit@{k}" for k in KS),
    *(f"{way}/hit@{k}" for way in ("x2y", "y2x") for k in KS),
)


@dataclass(frozen=True)
class Queries(Scores):
    """The ranks of the best match of each query, both ways.

    Attributes:
        x: (N,) long, ranks of the x queries, 1 is the top.
        y: (M,) long, ranks of the y queries.
        owner: (P,) long, the x of each pair of an x and a y of its own.
        target: (P,) long, the y of each such pair.
        groups: (N,) "head", "mid" or "tail" of each x.
    """

    METRICS: ClassVar[tuple[str, ...]] = METRICS
    MAIN: ClassVar[str] = "mean_recall"

    x: Tensor
    y: Tensor
    owner: Tensor
    target: Tensor
    groups: list[str]

    @staticmethod
    def of(x: Tensor, y: Tensor, y_of_x: Sequence[Sequence[int]], groups: Sequence[str]) -> Queries:
        """Return exact ranks of these embeddings, ties against the model."""
        found = ranks(x, y, [list(own) for own in y_of_x])
        counts = torch.tensor([len(own) for own in y_of_x])
        return Queries(
            found["x2y"].best,
            found["y2x"].best,
            torch.arange(len(counts)).repeat_interleave(counts),
            torch.tensor([j for own in y_of_x for j in own]),
            list(groups),
        )

    def scores(self, metric: str) -> Tensor:
        """Return (N,) float64, the metric of each x and its y's.

        ``x2y/hit@K`` is 1 where a match of x is in the top K; ``y2x/hit@K`` the mean of that over
        the y's of x; ``hit@K`` the mean of the two, ``mean_recall`` that over K = 1, 5, 10. So an x
        and its y's stay together when queries are drawn.

        Raises:
            ValueError: another metric.
        """
        if metric == "mean_recall":
            return torch.stack([self.scores(f"hit@{k}") for k in KS]).mean(dim=0)
        way, _, name = metric.rpartition("/")
        kind, _, k = name.partition("@")
        if kind != "hit" or not k.isdigit() or way not in ("", "x2y", "y2x"):
            raise ValueError(f"unknown metric {metric!r}; there are {', '.join(METRICS)}")
        if not way:
            return (self.scores(f"x2y/{name}") + self.scores(f"y2x/{name}")) / 2
        if way == "x2y":
            return (self.x <= int(k)).double()
        return self.mean_over_own((self.y <= int(k)).double())

    def mean_over_own(self, value_M: Tensor) -> Tensor:
        """Return (N,) the means over the y's of each x of (M,) float64 values."""
        total = torch.zeros(len(self.x), dtype=torch.float64)
        total.index_add_(0, self.owner, value_M[self.target])
        return total / torch.bincount(self.owner, minlength=len(self.x))

    def same_queries(self, other: Any) -> bool:
        """Return whether both have the same pairs in the same groups."""
        return (
            isinstance(other, Queries)
            and self.groups == other.groups
            and torch.equal(self.owner, other.owner)
            and torch.equal(self.target, other.target)
        )

    def arrays(self) -> dict[str, Any]:
        """Return the arrays that :meth:`save` writes."""
        return {
            "x": self.x.numpy().astype(np.int32),
            "y": self.y.numpy().astype(np.int32),
            "owner": self.owner.numpy().astype(np.int32),
            "target": self.target.numpy().astype(np.int32),
            "groups": np.array(self.groups, dtype=np.str_),
        }

    def save(self, path: Path) -> None:
        """Write them compactly."""
        with replacing(path) as file:
            np.savez_compressed(file, **self.arrays())

    @staticmethod
    def load(path: Path) -> Queries:
        """Load what :meth:`save` wrote."""
        with opened_arrays(path) as stored:
            x, y, owner, target = (
                torch.from_numpy(stored[name].astype(np.int64))
                for name in ("x", "y", "owner", "target")
            )
            return Queries(x, y, owner, target, [str(name) for name in stored["groups"]])
