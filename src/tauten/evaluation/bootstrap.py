"""Bootstrap intervals over queries, and over seeds and queries at once.

A replicate draws Q queries with replacement (as multiplicities, so that all replicates of all
metrics are one matrix product), or whole clusters of queries that are not independent, such as the
captions of one image. With one seed the interval is the central 95 % of the replicates (Efron &
Tibshirani 1993): it covers the choice of the queries, not that of the seed. With several seeds both
count, the spread over seeds with Student's distribution for so few: see
:mod:`tauten.evaluation.intervals`. Two seeds say little, and the interval is as wide as that.

Shape suffixes: Q queries, S seeds, K metrics, R replicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tauten.evaluation.checks import integers, numbers, whole
from tauten.evaluation.intervals import over_seeds_and_queries, share_interval

BUDGET = 2**22
Statistic = Literal["mean", "median"]


class Strata(NamedTuple):
    """Queries drawn within parts that keep their size, such as the images of each class.

    Attributes:
        of: (Q,) long, the number of each query's part.
        share: (Q,) float64, how much each query counts in the mean; they sum to 1.
    """

    of: Tensor
    share: Tensor


@dataclass(frozen=True)
class Estimate:
    """A statistic and its 95 % interval.

    Attributes:
        value: The statistic on the sample itself.
        low: Lower end of the interval.
        high: Upper end of the interval.
        queries: Q, the number of queries.
        seeds: S, the number of runs.
    """

    value: float
    low: float
    high: float
    queries: int
    seeds: int


@dataclass(frozen=True)
class Difference(Estimate):
    """A paired difference a - b and its 95 % interval."""

    @property
    def measurable(self) -> bool:
        """True where the interval excludes 0."""
        return self.low > 0 or self.high < 0


def resample(n: int, replicates: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield (r, n) float64 multiplicities of n draws with replacement; r sums to ``replicates``."""
    size = max(1, min(replicates, BUDGET // n))
    for start in range(0, replicates, size):
        r = min(size, replicates - start)
        drawn = torch.randint(n, (r, n), generator=generator)
        weight = torch.zeros(r, n, dtype=torch.float64)
        yield weight.scatter_add_(1, drawn, torch.ones_like(weight))


def weighted_medians(values: Tensor, weight_RQ: Tensor) -> Tensor:
    """Return (R,) medians of (Q,) values repeated by integer multiplicities,
    some above 0 in each row.
    """
    values_Q, order = values.sort()
    below = weight_RQ[:, order].cumsum(dim=1)
    total = below[:, -1:]
    middle = torch.cat([((total - 1) / 2).floor(), (total / 2).floor()], dim=1)
    return values_Q[torch.searchsorted(below, middle, right=True)].mean(dim=1)


def redraw(
    queries: int, clusters: Tensor | None, replicates: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield (r, Q) float64 multiplicities of queries, those of a cluster always drawn together.

    Args:
        queries: Q.
        clusters: (Q,) long, numbers 0, 1, ... of the clusters; None draws each query by itself.
        replicates: rows in all.
        generator: source of the draws.
    """
    if clusters is None:
        yield from resample(queries, replicates, generator)
        return
    number = int(clusters.max()) + 1
    for weight in resample(number, replicates, generator):
        yield weight[:, clusters]


def percentile_interval(replicates: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 2.5 % and 97.5 % percentiles along dimension 0."""
    low, high = torch.quantile(replicates, replicates.new_tensor([0.025, 0.975]), dim=0)
    return low, high


def bootstrap_mean(
    scores: Any,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    statistic: Statistic = "mean",
    clusters: Any = None,
    share: bool = False,
) -> Estimate:
    """Return the mean (or median) of per-query scores with its 95 % interval.

    Args:
        scores: (Q,) scores of one run, or (S, Q) of S runs that differ by their seed. With several
            runs the statistic is taken per run and averaged.
        bootstrap: Number of replicates.
        seed: Seed of the resampling; the same seed gives the same interval.
        statistic: "mean" or "median" over queries.
        clusters: (Q,) integers; queries of one number are drawn together.
        share: Whether scores are shares in [0, 1], such as hit@K. The part of the queries is then
            Wilson's interval, which is right for few hits and for none.

    Raises:
        ValueError: Not one or two dimensions, empty, not finite, bootstrap < 1, clusters of another
            length, or shares outside [0, 1] or with "median".
    """
    score_SQ = _scores(scores, "scores")
    owner_Q = _clusters(clusters, score_SQ)
    drawn = replicates([score_SQ], [statistic], bootstrap, seed, clusters=owner_Q)
    value_S, drawn_RS = drawn[0]
    if share and (statistic != "mean" or bool(((score_SQ < -1e-9) | (score_SQ > 1 + 1e-9)).any())):
        raise ValueError("share=True takes the mean of scores in [0, 1]")
    ends = share_ends(score_SQ, owner_Q) if share else None
    low_end, high_end = over_seeds_and_queries(value_S, drawn_RS, ends)
    return Estimate(float(value_S.mean()), low_end, high_end, score_SQ.shape[1], len(score_SQ))


def paired_bootstrap(
    a: Any,
    b: Any,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    statistic: Statistic = "mean",
    clusters: Any = None,
) -> Difference:
    """Return the difference a - b of two runs on the same queries, with its 95 % interval.

    Query i of ``a`` and of ``b`` must be the same query, and seed s of ``a`` and of ``b`` the same
    seed: replicates draw both together, so that what is common to the pair cancels.

    Args:
        a: (Q,) scores per query, or (S, Q) of S seeds.
        b: The same shape.
        bootstrap: Number of replicates.
        seed: Seed of the resampling.
        statistic: "mean" or "median" over queries.
        clusters: (Q,) integers; queries of one number are drawn together.

    Raises:
        ValueError: Unequal shapes, not one or two dimensions, empty, not finite, bootstrap < 1, or
            clusters of another length.
    """
    a_SQ, b_SQ = _scores(a, "a"), _scores(b, "b")
    if a_SQ.shape != b_SQ.shape:
        raise ValueError(
            f"a has shape {tuple(a_SQ.shape)} but b has {tuple(b_SQ.shape)} (seeds, queries): "
            "a paired comparison needs the same queries and the same seeds on both sides"
        )
    owner_Q = _clusters(clusters, a_SQ)
    both = replicates([a_SQ, b_SQ], [statistic] * 2, bootstrap, seed, clusters=owner_Q)
    (value_a, drawn_a), (value_b, drawn_b) = both
    low, high = over_seeds_and_queries(value_a - value_b, drawn_a - drawn_b)
    value = float(value_a.mean()) - float(value_b.mean())
    return Difference(value, low, high, a_SQ.shape[1], a_SQ.shape[0])


def _scores(scores: Any, name: str) -> Tensor:
    score = numbers(scores, name).double()
    if score.ndim not in (1, 2) or 0 in score.shape:
        raise ValueError(
            f"{name} must be a non-empty vector (queries,) or matrix (seeds, queries), "
            f"not of shape {tuple(score.shape)}"
        )
    if not score.isfinite().all():
        raise ValueError(f"{name} has {int((~score.isfinite()).sum())} entries that are NaN or inf")
    return score[None] if score.ndim == 1 else score


def _clusters(clusters: Any, score_SQ: Tensor) -> Tensor | None:
    if clusters is None:
        return None
    owner = integers(clusters, "clusters")
    if owner.shape != score_SQ.shape[1:]:
        raise ValueError(
            f"clusters has shape {tuple(owner.shape)} for {score_SQ.shape[1]} queries: give one "
            "number per query"
        )
    number: Tensor = owner.unique(return_inverse=True)[1]
    return number


def share_ends(score_SQ: Tensor, clusters: Tensor | None) -> tuple[float, float]:
    """Return the interval over queries alone of a mean of shares over seeds and queries."""
    low, high = share_interval(score_SQ.mean(dim=0)[:, None], clusters)
    return float(low), float(high)


def replicates(
    scores: Sequence[Tensor],
    statistics: Sequence[Statistic],
    bootstrap: int,
    seed: int,
    *,
    clusters: Tensor | None = None,
    strata: Strata | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Return values of scores and their replicates over queries, all of the same draws.

    Args:
        scores: (S, Q) each, of S seeds.
        statistics: the statistic of each of them, over queries.
        bootstrap: R replicates.
        seed: seed of the resampling.
        clusters: (Q,) long, numbers 0, 1, ... of queries that are drawn together.
        strata: parts within which queries are drawn, for weighted means.

    Returns:
        For each (S,) values and (R, S) replicates.
    """
    whole(bootstrap, "bootstrap", 1)
    for statistic in statistics:
        if statistic not in ("mean", "median"):
            raise ValueError(f'statistic must be "mean" or "median", not {statistic!r}')
    generator = torch.Generator().manual_seed(whole(seed, "seed"))
    if strata is not None:
        parts_SQ = [score_SQ * strata.share for score_SQ in scores]
        return sums_within(parts_SQ, strata.of, bootstrap, generator)
    queries = scores[0].shape[1]
    once = torch.ones(1, queries, dtype=torch.float64)
    kinds = list(zip(scores, statistics, strict=True))
    drawn: list[list[Tensor]] = [[] for _ in scores]
    for weight_RQ in redraw(queries, clusters, bootstrap, generator):
        for (score, statistic), parts in zip(kinds, drawn, strict=True):
            parts.append(_per_seed(score, weight_RQ, statistic))
    return [
        (_per_seed(score, once, statistic)[0], torch.cat(parts))
        for (score, statistic), parts in zip(kinds, drawn, strict=True)
    ]


def sums_within(
    parts: Sequence[Tensor], of_Q: Tensor, bootstrap: int, generator: torch.Generator
) -> list[tuple[Tensor, Tensor]]:
    """Return sums over queries and their replicates, queries drawn within strata of fixed size.

    Args:
        parts: (S, Q) float64 each, the terms of S sums.
        of_Q: (Q,) long, the stratum of each query.
        bootstrap: R replicates.
        generator: generator of the draws, which all parts share.

    Returns:
        For each (S,) sums and (R, S) replicates.
    """
    drawn = [torch.zeros(bootstrap, len(part), dtype=torch.float64) for part in parts]
    for number in of_Q.unique().tolist():
        rows, start = (of_Q == number).nonzero()[:, 0], 0
        for weight_RQ in resample(len(rows), bootstrap, generator):
            for part_SQ, drawn_RS in zip(parts, drawn, strict=True):
                drawn_RS[start : start + len(weight_RQ)] += weight_RQ @ part_SQ[:, rows].T
            start += len(weight_RQ)
    return [(part.sum(dim=1), sums) for part, sums in zip(parts, drawn, strict=True)]


def _per_seed(score_SQ: Tensor, weight_RQ: Tensor, statistic: Statistic) -> Tensor:
    if statistic == "mean":
        return weight_RQ @ score_SQ.T / weight_RQ.sum(dim=1, keepdim=True)
    return torch.stack([weighted_medians(score, weight_RQ) for score in score_SQ], dim=1)
