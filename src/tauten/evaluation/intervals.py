"""Intervals of what varies over seeds and over queries, and of shares of few queries.

A mean over S seeds and Q queries has two independent errors. Another S trainings would shift it:
that variance, A, is the variance of the seeds' means over S, known with S − 1 degrees of freedom
only. Other queries would shift all seeds alike: that variance, B, is what two seeds' means have in
common over draws of queries. With t and z the quantiles of Student's and the normal distribution,

    half² = t²·A + z²·B

covers at least what it says, whatever the ratio of the two is: P(|error| ≤ half) is a mixture of
concave functions of A and B (Banerjee 1961).

Shape suffixes: Q queries, S seeds, R replicates, K values.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

NORMAL = 1.959964
LEVEL = 0.95


@lru_cache(maxsize=64)
def student(freedom: int, level: float = LEVEL) -> float:
    """Return t with P(|T| ≤ t) = ``level`` for Student's T, by the angle atan(T/√freedom)."""
    angle = torch.linspace(0, math.pi / 2, 200_001, dtype=torch.float64)
    density = angle.cos() ** (freedom - 1)
    inside = torch.cumulative_trapezoid(density, angle)
    place = torch.searchsorted(inside, level * inside[-1])
    return math.sqrt(freedom) * math.tan(float(angle[place + 1]))


def query_variance(drawn_RS: Tensor) -> Tensor:
    """Return the variance over draws of queries that seeds have in common.

    That is the mean covariance of two different seeds' replicates, or 0 where it is negative; of
    one seed the variance of its replicates.

    Args:
        drawn_RS: (..., R, S) replicates of each seed's statistic, all of the same draws.
    """
    seeds = drawn_RS.shape[-1]
    centred = drawn_RS - drawn_RS.mean(dim=-2, keepdim=True)
    together = centred.mean(dim=-1).square().mean(dim=-1)
    if seeds == 1:
        return together
    apart = centred.square().mean(dim=(-2, -1)) / seeds
    return ((together - apart) * seeds / (seeds - 1)).clamp(min=0.0)


def over_seeds_and_queries(
    value_S: Tensor, drawn_RS: Tensor, ends: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return the 95 % interval of the mean over seeds.

    The part of the queries has the shape of the percentile interval, the part of the seeds that of
    Student's distribution. With one seed it is the percentile interval over queries alone.

    Args:
        value_S: (S,) the statistic of each seed.
        drawn_RS: (R, S) its replicates over queries.
        ends: interval over queries alone, in place of that of the replicates.
    """
    mean_R, seeds = drawn_RS.mean(dim=1), len(value_S)
    if ends is None:
        limits = mean_R.new_tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        low, high = torch.quantile(mean_R, limits).tolist()
        ends = low, high
    if seeds == 1:
        return ends
    value, whole = float(value_S.mean()), float(mean_R.var(correction=0))
    share = float(query_variance(drawn_RS)) / whole if whole > 0 else 1.0
    if share > 1 - 1e-9:  # seeds that agree: rounding must not move an end off 0
        share = 1.0
    training = student(seeds - 1) ** 2 * float(value_S.var()) / seeds
    below, above = (max(0.0, distance) ** 2 for distance in (value - ends[0], ends[1] - value))
    return value - math.sqrt(training + share * below), value + math.sqrt(training + share * above)


def wilson(share: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 95 % intervals of shares of ``number`` independent trials (Wilson 1927).

    A share of 0 or 1 gets an interval too, [0, 3.84/(n + 3.84)] where none of n is right.

    Args:
        share: (K,) float64 in [0, 1].
        number: (K,) trials, above 0; need not be whole.
    """
    extra = NORMAL**2 / number
    middle = (share + extra / 2) / (1 + extra)
    half = (extra * (share * (1 - share) + extra / 4)).sqrt() / (1 + extra)
    low, high = (middle - half).clamp(min=0.0), (middle + half).clamp(max=1.0)
    return torch.where(share <= 0, 0.0, low), torch.where(share >= 1, 1.0, high)


def share_interval(share_QK: Tensor, clusters: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the 95 % intervals of means of shares over queries, by :func:`wilson`.

    n is the number of independent trials that would have the variance of the mean: Q where each
    query is right or wrong by itself, fewer where those of a cluster go together, more where a
    query's score is itself a mean. Where all are right, or none, it is the number of clusters.

    Args:
        share_QK: (Q, K) in [0, 1].
        clusters: (Q,) long, numbers 0, 1, ... of the clusters; None: each query is one.
    """
    mean_K = share_QK.mean(dim=0)
    off_QK = share_QK - mean_K
    if clusters is None:
        total_CK = off_QK
    else:
        total_CK = off_QK.new_zeros(int(clusters.max()) + 1, off_QK.shape[1])
        total_CK = total_CK.index_add(0, clusters, off_QK)
    variance_K = (total_CK / len(share_QK)).square().sum(dim=0)
    extreme_K = (mean_K <= 0) | (mean_K >= 1)
    number_K = torch.where(extreme_K, len(total_CK), mean_K * (1 - mean_K) / variance_K)
    return wilson(mean_K, number_K)
