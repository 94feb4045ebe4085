"""Rank correlation with an interval, e.g. of learned temperatures with class counts."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.evaluation.bootstrap import Estimate
from tauten.evaluation.checks import integers, numbers, whole
from tauten.evaluation.intervals import over_seeds_and_queries


def spearman(
    a: Tensor,
    b: Tensor,
    clusters: Tensor | None = None,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Estimate:
    """Return Spearman's rank correlation, ties at their average rank, with a 95 % interval.

    With several seeds the correlation is the mean over seeds, and the interval covers seeds and
    samples, see :mod:`tauten.evaluation.intervals`. Samples of one cluster are not independent
    where ``b`` is a property of the cluster (a class count): give ``clusters`` to draw whole
    clusters instead.

    Args:
        a: (Q,) or (S, Q), a value for each sample, for each of S seeds.
        b: (Q,) another value of the same samples.
        clusters: (Q,) long, the cluster of each sample.
        bootstrap: replicates.
        seed: seed of the resampling.

    Returns:
        The correlation in [-1, 1]; ``queries`` is the number of independent draws.

    Raises:
        ValueError: unequal lengths, fewer than 3 samples, a constant or non-finite vector,
            bootstrap < 0.
    """
    first, other = numbers(a, "a").double(), numbers(b, "b").double()
    rows = first if first.dim() == 2 else first.unsqueeze(0)
    if rows.dim() != 2 or rows.shape[1:] != other.shape or len(other) < 3 or not len(rows):
        raise ValueError(
            f"spearman needs (Q,) or (S, Q) and (Q,) with Q >= 3, got {tuple(first.shape)} and "
            f"{tuple(other.shape)}"
        )
    whole(bootstrap, "bootstrap", 0)
    for name, vector in (("a", rows), ("b", other.unsqueeze(0))):
        if not bool(vector.isfinite().all()):
            raise ValueError(f"{name} has NaN or infinite values")
        if bool((vector == vector[:, :1]).all(dim=1).any()):
            raise ValueError(f"{name} is constant: a rank correlation needs different values")
    if clusters is None:
        members = list(torch.arange(len(other)).split(1))
    else:
        owner = integers(clusters, "clusters")
        if owner.shape != other.shape:
            raise ValueError(f"clusters must be {tuple(other.shape)}, got {tuple(owner.shape)}")
        order = owner.argsort(stable=True)
        sizes = owner.unique(return_counts=True)[1].tolist()
        members = list(order.split(sizes))
    generator = torch.Generator().manual_seed(whole(seed, "seed"))
    correlations: list[Tensor] = []
    for _ in range(bootstrap):
        drawn = torch.randint(len(members), (len(members),), generator=generator).tolist()
        index = torch.cat([members[i] for i in drawn])
        correlations.append(_correlations(rows[:, index], other[index]))
    value_S = _correlations(rows, other)
    value = float(value_S.mean())
    low = high = value
    replicates = [one for one in correlations if bool(one.isfinite().all())]
    if replicates:
        low, high = over_seeds_and_queries(value_S, torch.stack(replicates))
    return Estimate(value, low, high, queries=len(members), seeds=len(rows))


def _correlations(rows: Tensor, other: Tensor) -> Tensor:
    """Return the correlation (S,) of each row."""
    y = _ranks(other)
    return torch.stack([torch.corrcoef(torch.stack([_ranks(row), y]))[0, 1] for row in rows])


def _ranks(values: Tensor) -> Tensor:
    """Return ranks from 1, equal values at their average."""
    _, group, counts = values.unique(return_inverse=True, return_counts=True)
    rank: Tensor = (counts.cumsum(0).double() - (counts.double() - 1) / 2)[group]
    return rank
