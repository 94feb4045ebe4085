"""Rank correlation with an interval, e.g. of learned temperatures with class counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tauten.evaluation.bootstrap import Estimate, percentile_interval


def spearman(
    a: Tensor,
    b: Tensor,
    clusters: Tensor | None = None,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Spearman's rank correlation, ties at their average rank, with a 95 % interval.

    With several seeds the correlation is the mean over seeds, and each replicate draws seeds and
    samples with replacement. Samples of one cluster are not independent where ``b`` is a property
    of the cluster (a class count): give ``clusters`` to draw whole clusters instead.

    Args:
        a: (Q,) or (S, Q), a value for each sample, for each of S seeds.
        b: (Q,) another value of the same samples.
        clusters: (Q,) long, the cluster of each sample.
        bootstrap: replicates.
        seed: of the resampling.

    Returns:
        The correlation in [-1, 1]; ``queries`` is the number of independent draws.

    Raises:
        ValueError: unequal lengths, fewer than 3 samples, a constant or non-finite vector.
    """
    rows = (a if a.dim() == 2 else a.unsqueeze(0)).double()
    other = b.double()
    if rows.shape[1:] != other.shape or other.dim() != 1 or len(other) < 3:
        raise ValueError(
            f"spearman needs (Q,) or (S, Q) and (Q,) with Q >= 3, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    for name, vector in (("a", rows), ("b", other.unsqueeze(0))):
        if not bool(vector.isfinite().all()):
            raise ValueError(f"{name} has NaN or infinite values")
        if bool((vector == vector[:, :1]).all(dim=1).any()):
            raise ValueError(f"{name} is constant: a rank correlation needs different values")
    if clusters is None:
        members = list(torch.arange(len(other)).split(1))
    else:
        if clusters.shape != other.shape:
            raise ValueError(f"clusters must be {tuple(other.shape)}, got {tuple(clusters.shape)}")
        order = clusters.argsort(stable=True)
        sizes = clusters.unique(return_counts=True)[1].tolist()
        members = list(order.split(sizes))
    generator = torch.Generator().manual_seed(seed)
    found: list[float] = []
    for _ in range(bootstrap):
        drawn = torch.randint(len(members), (len(members),), generator=generator).tolist()
        index = torch.cat([members[i] for i in drawn])
        seeds = torch.randint(len(rows), (len(rows),), generator=generator)
        found.append(_correlation(rows[seeds][:, index], other[index]))
    value = _correlation(rows, other)
    low = high = value
    replicates = torch.tensor([one for one in found if math.isfinite(one)], dtype=torch.float64)
    if len(replicates):
        low, high = (float(end) for end in percentile_interval(replicates))
    return Estimate(value, low, high, queries=len(members), seeds=len(rows))


def _correlation(rows: Tensor, other: Tensor) -> float:
    y = _ranks(other)
    values = [torch.corrcoef(torch.stack([_ranks(row), y]))[0, 1] for row in rows]
    return float(torch.stack(values).mean())


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1, equal values at their average."""
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    rank: Tensor = (counts.cumsum(0).double() - (counts.double() - 1) / 2)[group]
    return rank
