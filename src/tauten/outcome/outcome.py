"""The outcome of an evaluation: what was found for each query, with labels and groups.

Pairs have two directions, ``x2y`` and ``y2x``; images that are classified have one, "". Every
metric of a report and of a comparison follows from an outcome.

Shape suffixes: Q queries of a direction, N queries x, M queries y, P matching pairs, S seeds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tauten.evaluation import QueryRanks
from tauten.evaluation.bootstrap import Strata
from tauten.evaluation.checks import members
from tauten.outcome.groups import ALL, CLASSES, GROUPS, in_order
from tauten.outcome.metrics import (
    CLASS_MAP,
    CLASS_MEAN,
    GRADED,
    KS,
    MEAN_RECALL,
    OF_CLASSES,
    OF_RELEVANCY,
    PAIRS,
    VIEWS,
    WAYS,
    Metrics,
)

Task = Literal["pairs", "views"]


#: metrics of ranks, of one direction
_OF_RANKS = re.compile(r"(hit|recall)@[1-9]\d*|MRR")


@dataclass(frozen=True)
class Queries:
    """The queries of one direction, and what was found for each.

    Attributes:
        groups: (Q,) "head", "mid", "tail" or another name; "" where not known.
        labels: (Q,) classes; "" where not known.
        scores: (Q,) numbers by metric, such as ``nDCG`` or ``knn@10``; NaN where undefined.
        ranks: ranks of all matches, where candidates were ranked.
    """

    groups: Sequence[str]
    labels: Sequence[str]
    scores: Mapping[str, Tensor] = field(default_factory=dict)
    ranks: QueryRanks | None = None

    def __len__(self) -> int:
        return len(self.groups)

    def score(self, metric: str) -> Tensor:
        """Return (Q,) float64, the metric of each query by itself.

        Raises:
            ValueError: another metric.
        """
        if metric in self.scores:
            return self.scores[metric].double()
        if self.ranks is None:
            raise ValueError(f"unknown metric {metric!r}; there are {', '.join(self.scores)}")
        if metric == MEAN_RECALL:
            return torch.stack([self.ranks.hit(k) for k in KS]).mean(dim=0)
        return self.ranks.metric("rank" if metric in ("median_rank", "mean_rank") else metric)


class Drawn(NamedTuple):
    """Queries of a group, and how replicates draw them.

    Attributes:
        rows: (q,) long, their positions.
        clusters: (q,) long, queries of one number are drawn together; None draws each by itself.
        strata: classes that keep their size, and the share of each query in the mean; None draws
            from all.
        number: how many of them the mean is over.
    """

    rows: Tensor
    clusters: Tensor | None
    strata: Strata | None
    number: int


@dataclass(frozen=True)
class Outcome:
    """Results of all queries of a split.

    As a comparison sees it a query is an x together with its y's, or an image.

    Attributes:
        task: "pairs" or "views".
        sides: queries by direction.
        owner: (P,) long, the x of each pair of an x and a y of its own.
        target: (P,) long, the y of each such pair.
        whole: (N,) scores of an x together with its y's, of files that keep nothing finer.
    """

    task: Task
    sides: Mapping[str, Queries]
    owner: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    target: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    whole: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def first(self) -> Queries:
        """The queries x, or the images."""
        return next(iter(self.sides.values()))

    @property
    def groups(self) -> list[str]:
        """(N,) the group of each x, or image."""
        return list(self.first.groups)

    @property
    def known(self) -> Metrics:
        """The metrics that a comparison may ask for."""
        if self.task == "views":
            rules = [name for name in VIEWS.names if name.partition("/")[0] in self.first.scores]
            return Metrics(tuple(rules), VIEWS.main)
        known = {*self.whole, *self.first.scores}
        graded = GRADED if "nDCG" in known else PAIRS
        if known.issuperset(CLASS_MAP):
            return graded
        return Metrics(tuple(n for n in graded.names if n not in OF_CLASSES), graded.main)

    def scores(self, metric: str) -> Tensor:
        """Return (N,) float64 in [0, 1], the metric of each x and its y's, or of each image.

        NaN is a query without another of its class, in metrics of classes alone.

        ``x2y/hit@K`` is 1 where a match of x is in the top K; ``y2x/hit@K`` the mean of that over
        the y's of x; ``hit@K`` the mean of the two, ``mean_recall`` that over K = 1, 5, 10; with
        graded relevancies ``nDCG`` and ``mAP`` (the official one) likewise. So an x and its y's
        stay together when queries are drawn. ``class_map_across`` and ``class_map_within`` are the
        average precision of the same class among the other modality and the own, the mean over x
        and its y's as far as they have another of their class; ``class_map`` is the mean of both.
        ``knn@K`` and ``knn@K/class_mean`` are 1 where an
        image is classified right. Where ranks are kept, other K, ``x2y/recall@K`` and ``x2y/MRR``
        are known too.

        Raises:
            ValueError: another metric, or one that is not defined for every query.
        """
        if metric not in self.known.names and not self._has(metric):
            names = dict.fromkeys((*self.known.names, *self.first.scores))
            raise ValueError(f"unknown metric {metric!r}; there are {', '.join(names)}")
        if self.task == "views":
            return self.first.score(metric.removesuffix(CLASS_MEAN))
        if metric in self.whole:
            return self.whole[metric]
        if metric in self.first.scores and metric not in self.known.names:
            return self.first.score(metric)
        if metric == MEAN_RECALL:
            return torch.stack([self.scores(f"hit@{k}") for k in KS]).mean(dim=0)
        if metric == OF_CLASSES[0]:
            return torch.stack([self.scores(name) for name in CLASS_MAP]).mean(dim=0)
        if metric in CLASS_MAP:
            return torch.stack([self._in_direction(way, metric) for way in WAYS]).nanmean(dim=0)
        way, _, name = metric.rpartition("/")
        name = OF_RELEVANCY.get(name, name)
        scores = [self._in_direction(one, name) for one in ([way] if way else WAYS)]
        score_N = sum(scores[1:], scores[0]) / len(scores)
        if bool(score_N.isnan().any()):
            bad = int(score_N.isnan().sum())
            raise ValueError(f"{bad} of {len(score_N)} queries have no candidate of relevancy 1")
        return score_N

    def _has(self, metric: str) -> bool:
        """Return whether the metric is kept as it is, or given by ranks of both directions."""
        way, _, name = metric.rpartition("/")
        if metric in self.whole or metric in self.first.scores:
            return True
        ranked = self.task == "pairs" and all(
            side.ranks is not None for side in self.sides.values()
        )
        return ranked and way in WAYS and _OF_RANKS.fullmatch(name) is not None

    def _in_direction(self, way: str, metric: str) -> Tensor:
        score = self.sides[way].score(metric)
        return score if way == "x2y" else self.mean_over_own(score)

    def mean_over_own(self, value_M: Tensor) -> Tensor:
        """Return (N,) the means over the y's of each x of (M,) float64 values that are not NaN."""
        total = torch.zeros(len(self.groups), dtype=torch.float64)
        value_P = value_M[self.target]
        known_P = ~value_P.isnan()
        total.index_add_(0, self.owner[known_P], value_P[known_P])
        return total / torch.bincount(self.owner[known_P], minlength=len(total))

    def weights(self, metric: str) -> Tensor:
        """Return (N,) float64, how much each query counts in a mean of this metric.

        In a mean over classes that is 1 over the queries of its class; 0 where a query has no
        score, which :meth:`members` leaves out.
        """
        if metric in OF_CLASSES:
            return (~self.scores(metric).isnan()).double()
        if not metric.endswith(CLASS_MEAN):
            return torch.ones(len(self.groups), dtype=torch.float64)
        sizes = Counter(self.first.labels)
        return torch.tensor([1 / sizes[label] for label in self.first.labels], dtype=torch.float64)

    def members(self, group: str, metric: str = "") -> Tensor:
        """Return the positions of the queries of a group, or of all, that have a metric."""
        rows = _members(self.first, group)
        return rows[self.weights(metric)[rows] > 0] if metric in OF_CLASSES else rows

    def metrics(self) -> dict[str, dict[str, float]]:
        """Return each metric's mean over each group that has queries, and their number ``n``."""
        known = {metric: (self.scores(metric), self.weights(metric)) for metric in self.known.names}
        means_of = {}
        for group in (ALL, *GROUPS):
            if not len(self.members(group)):
                continue
            means = {}
            for metric, (score, weight) in known.items():
                rows = self.members(group, metric)
                if len(rows):
                    means[metric] = float(weighted_mean(score[rows], weight[rows]))
            means_of[group] = means | {"n": float(len(self.members(group)))}
        return means_of

    def same_queries(self, other: Outcome) -> bool:
        """Return whether query i of both is the same query for all i."""
        same = self.task == other.task and self.groups == other.groups
        if self.task == "views":
            return same and list(self.first.labels) == list(other.first.labels)
        ours, theirs = (self.owner, self.target), (other.owner, other.target)
        return same and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))

    def group_names(self) -> list[str]:
        """Return the groups that a report has rows for, the largest first."""
        if self.task == "views":
            return [ALL, CLASSES, *(name for name in GROUPS if name in self.groups)]
        return [ALL, *in_order(name for side in self.sides.values() for name in side.groups)]

    def drawn(self, direction: str, group: str) -> Drawn:
        """Return the queries of a group, and how replicates draw them.

        Each x is drawn by itself and the y's of one (first) x together. Images are drawn within
        their classes, which keep their sizes, and a mean over classes weighs all of them alike.
        """
        side = self.sides[direction]
        if self.task == "views":
            return _within_classes(side, group)
        rows = _members(side, group)
        clusters = None
        if direction == "y2x":
            clusters = torch.full((len(side),), len(self.groups))
            clusters = clusters.scatter_reduce(0, self.target, self.owner, "amin")[rows]
        return Drawn(rows, clusters, None, len(rows))


def _members(side: Queries, group: str) -> Tensor:
    return torch.arange(len(side)) if group == ALL else members(side.groups, group)


def _within_classes(side: Queries, group: str) -> Drawn:
    names, sizes = sorted(set(side.labels)), Counter(side.labels)
    number = {name: place for place, name in enumerate(names)}
    inside = [group in (ALL, CLASSES, name) for name in side.groups]
    share_Q = torch.tensor(
        [(1 if group == ALL else 1 / sizes[label]) for label in side.labels], dtype=torch.float64
    ) * torch.tensor(inside)
    strata = Strata(torch.tensor([number[label] for label in side.labels]), share_Q / share_Q.sum())
    return Drawn(torch.arange(len(side)), None, strata, sum(inside))


def weighted_mean(score_SN: Tensor, weight_N: Tensor) -> Tensor:
    """Return (S,) or scalar, the means over the last dimension."""
    return (score_SN * weight_N).sum(-1) / weight_N.sum()
