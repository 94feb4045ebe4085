"""Scores of each test query of a cell, from which every metric of the cell follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

ALL = "all"
GROUPS = (ALL, "head", "mid", "tail")


class Scores(ABC):
    """The score of each query by each metric; a metric of a group is their weighted mean.

    Of pairs it is :class:`tauten.comparison.queries.Queries`, with graded relevancies
    :class:`tauten.comparison.graded.GradedQueries`, of two views
    :class:`tauten.comparison.classified.Classified`.

    Attributes:
        METRICS: names of the metrics.
        MAIN: what is compared unless told otherwise.
        groups: (N,) "head", "mid" or "tail" of each query.
    """

    METRICS: ClassVar[tuple[str, ...]]
    MAIN: ClassVar[str]
    groups: list[str]

    @abstractmethod
    def scores(self, metric: str) -> Tensor:
        """Return (N,) float64 in [0, 1], the metric of each query.

        Raises:
            ValueError: another metric.
        """

    def weights(self, metric: str) -> Tensor:
        """Return (N,) float64 > 0, how much each query counts in a mean of this metric."""
        return torch.ones(len(self.groups), dtype=torch.float64)

    @abstractmethod
    def same_queries(self, other: Any) -> bool:
        """Return whether query i of both is the same query for all i."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write them compactly."""

    def members(self, group: str) -> Tensor:
        """Return positions of the queries of a group, or of all."""
        if group == ALL:
            return torch.arange(len(self.groups))
        return torch.tensor([i for i, name in enumerate(self.groups) if name == group]).long()

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return each metric's mean over each group that has queries, and their number ``n``."""
        known = {metric: (self.scores(metric), self.weights(metric)) for metric in self.METRICS}
        found = {}
        for group in GROUPS:
            members = self.members(group)
            if len(members):
                means = {
                    metric: float(weighted_mean(score[members], weight[members]))
                    for metric, (score, weight) in known.items()
                }
                found[group] = means | {"n": float(len(members))}
        return found


def weighted_mean(score_SN: Tensor, weight_N: Tensor) -> Tensor:
    """Return (S,) or scalar, the means over the last dimension."""
    return (score_SN * weight_N).sum(-1) / weight_N.sum()
