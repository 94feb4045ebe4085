"""Bootstrap intervals over queries, and over seeds and queries at once.

A replicate draws Q queries with replacement (as multiplicities, so that all replicates of all
metrics are one matrix product) and, if there are several runs of the same recipe, S seeds with
replacement, crossed with the queries. The interval is the central 95 % of the replicates
(Efron & Tibshirani 1993; crossed factors: Owen 2007, "The pigeonhole bootstrap").

With one seed the interval covers the choice of the queries only, not that of the seed. With a few
seeds the resampling of seeds is itself rough: two or three say little about the spread over seeds.

Shape suffixes: Q queries, S seeds, K metrics, R replicates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

BUDGET = 2**22
Statistic = Literal["mean", "median"]


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
        """Whether the interval excludes 0."""
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
    """(R,) medians of (Q,) values repeated by integer multiplicities that sum to Q per row."""
    values_Q, order = values.sort()
    n = len(values)
    below = weight_RQ[:, order].cumsum(dim=1)
    middle = below.new_tensor([(n - 1) // 2, n // 2]).expand(len(below), 2).contiguous()
    return values_Q[torch.searchsorted(below, middle, right=True)].mean(dim=1)


def percentile_interval(replicates: Tensor) -> tuple[Tensor, Tensor]:
    """The 2.5 % and 97.5 % percentiles along dimension 0."""
    low, high = torch.quantile(replicates, replicates.new_tensor([0.025, 0.975]), dim=0)
    return low, high


def bootstrap_mean(
    scores: Any, *, bootstrap: int = 1000, seed: int = 0, statistic: Statistic = "mean"
) -> Estimate:
    """Mean (or median) of per-query scores with its 95 % interval.

    Args:
        scores: (Q,) scores of one run, or (S, Q) of S runs that differ by their seed. With several
            runs the statistic is taken per run and averaged.
        bootstrap: Number of replicates.
        seed: Seed of the resampling; the same seed gives the same interval.
        statistic: "mean" or "median" over queries.

    Raises:
        ValueError: Not one or two dimensions, empty, not finite, or bootstrap < 1.
    """
    score_SQ = _scores(scores, "scores")
    value, drawn = _replicates([score_SQ], bootstrap, seed, statistic)
    low, high = percentile_interval(drawn[0])
    return Estimate(value[0], float(low), float(high), score_SQ.shape[1], score_SQ.shape[0])


def paired_bootstrap(
    a: Any, b: Any, *, bootstrap: int = 1000, seed: int = 0, statistic: Statistic = "mean"
) -> Difference:
    """The difference a - b of two runs on the same queries, with its 95 % interval.

    Query i of ``a`` and of ``b`` must be the same query, and seed s of ``a`` and of ``b`` the same
    seed: replicates draw both together, so that what is common to the pair cancels.

    Args:
        a: (Q,) scores per query, or (S, Q) of S seeds.
        b: The same shape.
        bootstrap: Number of replicates.
        seed: Seed of the resampling.
        statistic: "mean" or "median" over queries.

    Raises:
        ValueError: Unequal shapes, not one or two dimensions, empty, not finite, or bootstrap < 1.
    """
    a_SQ, b_SQ = _scores(a, "a"), _scores(b, "b")
    if a_SQ.shape != b_SQ.shape:
        raise ValueError(
            f"a has shape {tuple(a_SQ.shape)} but b has {tuple(b_SQ.shape)} (seeds, queries): "
            "a paired comparison needs the same queries and the same seeds on both sides"
        )
    (value_a, value_b), (drawn_a, drawn_b) = _replicates([a_SQ, b_SQ], bootstrap, seed, statistic)
    low, high = percentile_interval(drawn_a - drawn_b)
    return Difference(value_a - value_b, float(low), float(high), a_SQ.shape[1], a_SQ.shape[0])


def _scores(scores: Any, name: str) -> Tensor:
    score = torch.as_tensor(scores).detach().cpu().double()
    if score.ndim not in (1, 2) or 0 in score.shape:
        raise ValueError(
            f"{name} must be a non-empty vector (queries,) or matrix (seeds, queries), "
            f"not of shape {tuple(score.shape)}"
        )
    if not score.isfinite().all():
        raise ValueError(f"{name} has {int((~score.isfinite()).sum())} entries that are NaN or inf")
    return score[None] if score.ndim == 1 else score


def _replicates(
    scores: list[Tensor], bootstrap: int, seed: int, statistic: Statistic
) -> tuple[list[float], list[Tensor]]:
    """Values of the (S, Q) scores and (R,) replicates of each, all with the same draws."""
    if bootstrap < 1:
        raise ValueError(f"bootstrap must be at least 1 replicate, not {bootstrap}")
    if statistic not in ("mean", "median"):
        raise ValueError(f'statistic must be "mean" or "median", not {statistic!r}')
    seeds, queries = scores[0].shape
    generator = torch.Generator().manual_seed(seed)
    once = torch.ones(1, queries, dtype=torch.float64)
    values = [float(_per_seed(score, once, statistic).mean()) for score in scores]
    drawn: list[list[Tensor]] = [[] for _ in scores]
    for weight_RQ in resample(queries, bootstrap, generator):
        weight_RS = torch.cat(list(resample(seeds, len(weight_RQ), generator))) / seeds
        for score, parts in zip(scores, drawn, strict=True):
            parts.append((_per_seed(score, weight_RQ, statistic) * weight_RS).sum(dim=1))
    return values, [torch.cat(parts) for parts in drawn]


def _per_seed(score_SQ: Tensor, weight_RQ: Tensor, statistic: Statistic) -> Tensor:
    if statistic == "mean":
        return weight_RQ @ score_SQ.T / score_SQ.shape[1]
    return torch.stack([weighted_medians(score, weight_RQ) for score in score_SQ], dim=1)
