"""Means of per-query scores, overall and by group, with 95 % intervals over queries.

Shape suffixes: Q queries, K metrics, R replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tauten.evaluation.bootstrap import percentile_interval, redraw, weighted_medians
from tauten.evaluation.checks import members
from tauten.evaluation.intervals import share_interval
from tauten.evaluation.query_ranks import QueryRanks


@dataclass(frozen=True)
class PerQuery:
    """Scores of some queries by name.

    Attributes:
        shares: (Q,) float64 in [0, 1] with Wilson's intervals, such as hit@K.
        means: (Q,) float64 with intervals by the bootstrap, such as mAP.
        best: (Q,) ranks of the best match, of which the median is told; None for no such.
    """

    shares: Mapping[str, Tensor] = field(default_factory=dict)
    means: Mapping[str, Tensor] = field(default_factory=dict)
    best: Tensor | None = None

    @staticmethod
    def of(ranks: QueryRanks, ks: Sequence[int]) -> PerQuery:
        """Return the scores that ranks give."""
        shares = {f"hit@{k}": ranks.hit(k) for k in ks}
        shares |= {f"recall@{k}": ranks.recall(k) for k in ks}
        best = ranks.best.double()
        means = {"mean_rank": best, "mAP": ranks.average_precision(), "MRR": ranks.reciprocal()}
        return PerQuery(shares, means, best)

    @staticmethod
    def joined(parts: Sequence[PerQuery]) -> PerQuery:
        """Return the scores of several blocks of queries, at least one, as those of one."""
        best = [part.best for part in parts if part.best is not None]
        return PerQuery(
            {name: torch.cat([p.shares[name] for p in parts]) for name in parts[0].shares},
            {name: torch.cat([p.means[name] for p in parts]) for name in parts[0].means},
            torch.cat(best) if best else None,
        )

    def __len__(self) -> int:
        return len(next(iter((self.shares or self.means).values())))

    def rows(self, rows: Tensor) -> PerQuery:
        """Return the scores of the queries at these positions."""
        return PerQuery(
            {name: score[rows] for name, score in self.shares.items()},
            {name: score[rows] for name, score in self.means.items()},
            None if self.best is None else self.best[rows],
        )

    def values(
        self, clusters: Tensor | None, bootstrap: int, seed: int
    ) -> dict[str, tuple[float, ...]]:
        """Return each metric, alone or with both ends of its interval, and ``n``."""
        value: dict[str, float] = {}
        low: dict[str, float] = {}
        high: dict[str, float] = {}
        if self.shares:
            share_QK = torch.stack(list(self.shares.values()), dim=1)
            value |= dict(zip(self.shares, share_QK.mean(dim=0).tolist(), strict=True))
            if bootstrap:
                ends = share_interval(share_QK, clusters)
                for bounds, end in zip((low, high), ends, strict=True):
                    bounds |= dict(zip(self.shares, end.tolist(), strict=True))
        drawn_names = [*self.means, *(("median_rank",) if self.best is not None else ())]
        once = torch.ones(1, len(self), dtype=torch.float64)
        value |= {name: float(score.mean()) for name, score in self.means.items()}
        if self.best is not None:
            value["median_rank"] = float(weighted_medians(self.best, once))
        if bootstrap and drawn_names:
            generator = torch.Generator().manual_seed(seed)
            parts = redraw(len(self), clusters, bootstrap, generator)
            ends = percentile_interval(torch.cat([self._drawn(weight) for weight in parts]))
            for bounds, end in zip((low, high), ends, strict=True):
                bounds |= dict(zip(drawn_names, end.tolist(), strict=True))
        out: dict[str, tuple[float, ...]] = {"n": (float(len(self)),)}
        ends_of = {name: (low[name], high[name]) if bootstrap else () for name in value}
        return {name: (number, *ends_of[name]) for name, number in value.items()} | out

    def _drawn(self, weight_RQ: Tensor) -> Tensor:
        """Return (R, K) means of each replicate, and the medians of the best ranks last."""
        parts = []
        if self.means:
            mean_QK = torch.stack(list(self.means.values()), dim=1)
            parts.append(weight_RQ @ mean_QK / weight_RQ.sum(dim=1, keepdim=True))
        if self.best is not None:
            parts.append(weighted_medians(self.best, weight_RQ)[:, None])
        return torch.cat(parts, dim=1)


def summarize(
    prefix: str,
    scores: PerQuery,
    names: Sequence[str] | None,
    clusters: Tensor | None,
    bootstrap: int,
    seed: int,
) -> dict[str, float]:
    """Return ``PREFIX/METRIC``, ``.../GROUP`` and both with ``/low`` and ``/high``.

    Args:
        prefix: what keys begin with; "" for nothing.
        scores: scores of the queries.
        names: (Q,) group of each query; None for no groups.
        clusters: (Q,) long, queries of one number are drawn together; None: each by itself.
        bootstrap: replicates; 0 leaves the intervals out.
        seed: seed of the resampling.
    """
    start = f"{prefix}/" if prefix else ""
    out: dict[str, float] = {}
    for group in ("", *sorted(set(names or ()))):
        rows = members(names or (), group) if group else torch.arange(len(scores))
        together = None
        if clusters is not None:
            together = clusters[rows].unique(return_inverse=True)[1]
            together = None if len(together.unique()) == len(rows) else together
        for name, values in scores.rows(rows).values(together, bootstrap, seed).items():
            key = f"{start}{name}/{group}" if group else f"{start}{name}"
            ends = ("",) if len(values) == 1 else ("", "/low", "/high")
            out |= {f"{key}{end}": value for end, value in zip(ends, values, strict=True)}
    return out
