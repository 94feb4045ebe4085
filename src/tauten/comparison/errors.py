"""Both errors of paired differences, over seeds and over queries, and the intervals of their sum.

Each error is a variance and how large |T| gets where there is no difference. See
:mod:`tauten.comparison.contrasts` for the rule that joins them.

Shape suffixes: S seeds, R replicates or levels, K comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tauten.comparison.spread import seed_variance, simulated
from tauten.evaluation.intervals import LEVEL, query_variance


class Compared(NamedTuple):
    """One pair in one group.

    Attributes:
        a: name of a variant.
        b: name of the other.
        same_runs: numbers of both, equal where variants have the same runs; and their seeds.
        group: where.
        values: (S,) difference of each seed.
        drawn: (R, S) its replicates over queries.
        effect: see :class:`tauten.comparison.Contrast`.
        queries: N.
    """

    a: str
    b: str
    same_runs: tuple[int, int, tuple[int, ...]]
    group: str
    values: Tensor
    drawn: Tensor
    effect: float | None
    queries: int


class Part(NamedTuple):
    """One of the two errors: its variance and |T| where there is no difference, ascending.

    Attributes:
        variance: (K,) of each comparison.
        each: (R, K) |T| of each.
        most: (R,) the largest |T| of all.
    """

    variance: Tensor
    each: Tensor
    most: Tensor


def seed_part(compared: Sequence[Compared]) -> Part:
    """Return a and |T| over seeds; both are 0 for what has one seed."""
    variance_K = torch.zeros(len(compared), dtype=torch.float64)
    each_RK = torch.zeros(1, len(compared), dtype=torch.float64)
    several = [k for k, one in enumerate(compared) if len(one.values) > 1]
    if not several:
        return Part(variance_K, each_RK, torch.zeros(1, dtype=torch.float64))
    groups = sorted({compared[k].group for k in several})
    plan = tuple(compared[k].same_runs for k in several if compared[k].group == groups[0])
    each_RP, most_R = simulated(plan, len(groups))
    each_RK = torch.zeros(len(each_RP), len(compared), dtype=torch.float64)
    for group in groups:
        here = [k for k in several if compared[k].group == group]
        variance_K[here] = seed_variance([compared[k].values for k in here])
        each_RK[:, here] = each_RP
    return Part(variance_K, each_RK, most_R)


def query_part(compared: Sequence[Compared], seed: int) -> Part:
    """Return b and |T| over queries."""
    variance_K = torch.stack([query_variance(one.drawn) for one in compared])
    error_RK = torch.stack([one.drawn.mean(dim=1) - one.values.mean() for one in compared], dim=1)
    spread_K = error_RK.std(dim=0, correction=0)
    some_K = spread_K > 1e-12
    free_K = torch.tensor([max(1.0, one.queries - 1.0) for one in compared], dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    t_RK = (error_RK / torch.where(some_K, spread_K, torch.inf)).abs()
    t_RK = t_RK / _known_to(free_K, len(t_RK), generator)
    variance_K = torch.where(some_K, variance_K, 0.0) * (1 + 1 / free_K)
    return Part(variance_K, t_RK.sort(dim=0).values, t_RK.amax(dim=1).sort().values)


def _known_to(free_K: Tensor, replicates: int, generator: torch.Generator) -> Tensor:
    """Return (R, K) standard deviations estimated with so many degrees of freedom,
    where 1 is right.
    """
    normal_RK = torch.randn(replicates, len(free_K), generator=generator, dtype=torch.float64)
    ninth_K = 2 / (9 * free_K)  # Wilson & Hilferty 1931: the cube root of chi² is nearly normal
    return (1 - ninth_K + normal_RK * ninth_K.sqrt()).clamp(min=0.1) ** 1.5


def half_widths(seeds: Part, queries: Part) -> tuple[Tensor, Tensor]:
    """Return (R, K) half widths at R ascending levels,
    of each comparison by itself and of all at once.
    """
    levels_R = (torch.arange(len(queries.most), dtype=torch.float64) + 0.5) / len(queries.most)

    def half(seeds_t: Tensor, queries_t: Tensor) -> Tensor:
        t_RK = torch.quantile(seeds_t, levels_R, dim=0)
        return (t_RK**2 * seeds.variance + queries_t**2 * queries.variance).sqrt()

    return (
        half(seeds.each, queries.each),
        half(seeds.most[:, None], queries.most[:, None]),
    )


def at_level(half_RK: Tensor) -> Tensor:
    """Return (K,) half widths at 95 %."""
    return torch.quantile(half_RK, LEVEL, dim=0)
