"""Paired differences to a baseline over seeds and queries, corrected for how many there are.

A replicate draws seeds, and within each count group queries, with replacement, the same for every
control, so that what is common to a pair cancels. In a mean over classes each drawn query weighs 1
over the size of its class. With d the difference, s the standard deviation of its replicates d*,
and T = (d* − d)/s of the same replicate for every comparison,

    interval       the central 95 % of d*
    p              share of replicates with |T| ≥ |d|/s
    corrected p    share of replicates whose largest |T| over all comparisons is ≥ |d|/s
    simultaneous   d ± c·s, c the 95 % quantile of the largest |T|

(single-step max-T, Westfall & Young 1993): with 95 % probability all simultaneous intervals hold.
Comparisons that move together cost less than independent ones. Queries are drawn within head, mid
and tail, so the share of each group stays as it is. Seeds and queries are crossed, by which the
part of the variance that belongs to neither alone is counted up to three times (Owen 2007):
intervals are rather too wide. With few seeds the spread over seeds is itself roughly known.

Shape suffixes: S seeds, N queries, R replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tauten.comparison.scores import ALL, GROUPS, Scores, weighted_mean
from tauten.evaluation.bootstrap import Estimate, bootstrap_mean, percentile_interval, resample

Verdict = Literal["same", "better", "worse"]


@dataclass(frozen=True)
class Contrast:
    """One difference a − b, in one group.

    Attributes:
        a: name of a variant.
        b: name of the one it is compared with.
        group: "all", "head", "mid" or "tail".
        value: the difference of the means.
        low: lower end of the 95 % interval of this comparison by itself.
        high: upper end.
        p: of this comparison by itself.
        corrected_low: lower end of the simultaneous interval.
        corrected_high: upper end.
        corrected_p: corrected for all comparisons.
        effect: Cohen's d over seeds: the difference over the root mean square of the standard
            deviations over seeds of a and b; None with fewer than two seeds, or none that differ.
        seeds: S, in common.
        queries: N, of the group.
    """

    a: str
    b: str
    group: str
    value: float
    low: float
    high: float
    p: float
    corrected_low: float
    corrected_high: float
    corrected_p: float
    effect: float | None
    seeds: int
    queries: int

    @property
    def verdict(self) -> Verdict:
        """ "better" or "worse" where the simultaneous interval excludes 0, else "same"."""
        if self.corrected_low > 0:
            return "better"
        return "worse" if self.corrected_high < 0 else "same"


Seeds = Mapping[int, Scores]


def estimates(
    variants: Mapping[str, Seeds], metric: str, bootstrap: int = 2000, seed: int = 0
) -> dict[tuple[str, str], Estimate]:
    """Mean of each variant and group over seeds and queries, with its own 95 % interval."""
    found = {}
    for name, runs in variants.items():
        score_SN, queries = _scores(runs, sorted(runs), metric), next(iter(runs.values()))
        for group in _groups(queries):
            members = queries.members(group)
            weight_N = queries.weights(metric)[members]
            found[name, group] = bootstrap_mean(
                score_SN[:, members] * (weight_N / weight_N.mean()), bootstrap=bootstrap, seed=seed
            )
    return found


def contrasts(
    variants: Mapping[str, Seeds],
    pairs: Sequence[tuple[str, str]],
    metric: str,
    bootstrap: int = 2000,
    seed: int = 0,
) -> list[Contrast]:
    """The differences a − b of these pairs, in all groups, corrected for all of them together.

    Args:
        variants: ranks of the same queries by seed, for each variant.
        pairs: (a, b) names. A pair without a seed in common is left out.
        metric: one of their :attr:`tauten.comparison.scores.Scores.METRICS`.
        bootstrap: replicates.
        seed: of the resampling.

    Raises:
        ValueError: bootstrap < 1, or variants tested on different queries.
    """
    if bootstrap < 1:
        raise ValueError(f"bootstrap must be at least 1 replicate, not {bootstrap}")
    _same_queries(variants)
    drawn = _Draws(bootstrap, seed)
    places: list[tuple[str, str, str, int, int, float | None]] = []
    values, replicates = [], []
    for a, b in pairs:
        common = sorted(set(variants[a]) & set(variants[b]))
        if not common:
            continue
        a_SN, b_SN = (_scores(variants[name], common, metric) for name in (a, b))
        queries = variants[a][common[0]]
        weight_N = queries.weights(metric)
        for group, replicate_R in drawn.of(a_SN - b_SN, weight_N, queries).items():
            members = queries.members(group)
            a_S, b_S = (
                weighted_mean(score_SN[:, members], weight_N[members]) for score_SN in (a_SN, b_SN)
            )
            values.append((a_S - b_S).mean())
            replicates.append(replicate_R)
            places.append((a, b, group, len(common), len(members), _effect(a_S, b_S)))
    if not places:
        return []
    value_K, replicate_KR = torch.stack(values), torch.stack(replicates)
    spread_K = replicate_KR.std(dim=1, correction=0)
    some_K = spread_K > 1e-12
    scale_K = torch.where(some_K, spread_K, 1.0)
    t_KR = ((replicate_KR - value_K[:, None]) / scale_K[:, None] * some_K[:, None]).abs()
    observed_K = torch.where(some_K, value_K.abs() / scale_K, torch.inf * (value_K != 0))
    observed_K = observed_K.nan_to_num(0.0, posinf=torch.inf)
    most_R = t_KR.amax(dim=0)
    critical = torch.quantile(most_R, 0.95)
    low_K, high_K = percentile_interval(replicate_KR.T)
    found = []
    for k, (a, b, group, seeds, queries_n, effect) in enumerate(places):
        half = float(critical * spread_K[k])
        found.append(
            Contrast(
                a=a,
                b=b,
                group=group,
                value=float(value_K[k]),
                low=float(low_K[k]),
                high=float(high_K[k]),
                p=_share(t_KR[k], observed_K[k]),
                corrected_low=float(value_K[k]) - half,
                corrected_high=float(value_K[k]) + half,
                corrected_p=_share(most_R, observed_K[k]),
                effect=effect,
                seeds=seeds,
                queries=queries_n,
            )
        )
    return found


class _Draws:
    """Multiplicities of queries in each group and of seeds, the same for every comparison."""

    def __init__(self, replicates: int, seed: int) -> None:
        self.replicates, self.seed = replicates, seed
        self._kept: dict[tuple[str, int], Tensor] = {}

    def of(self, difference_SN: Tensor, weight_N: Tensor, queries: Scores) -> dict[str, Tensor]:
        """(R,) replicates of the mean difference in each group, and in all."""
        seed_RS = self._counts("seeds", len(difference_SN)) / len(difference_SN)
        found: dict[str, Tensor] = {}
        whole = torch.zeros(self.replicates, dtype=torch.float64)
        groups = [group for group in _groups(queries) if group != ALL] or [ALL]
        for group in groups:
            members = queries.members(group)
            weight_RN = self._counts(group, len(members)) * weight_N[members]
            weight_RN /= weight_RN.sum(dim=1, keepdim=True)
            found[group] = ((weight_RN @ difference_SN[:, members].T) * seed_RS).sum(dim=1)
            whole += found[group] * weight_N[members].sum() / weight_N.sum()
        return {ALL: whole} | found

    def _counts(self, what: str, size: int) -> Tensor:
        """(R, size) how often each is drawn."""
        if (what, size) not in self._kept:
            number = ("seeds", *GROUPS).index(what)
            generator = torch.Generator().manual_seed(self.seed * 7 + number)
            self._kept[what, size] = torch.cat(list(resample(size, self.replicates, generator)))
        return self._kept[what, size]


def _groups(queries: Scores) -> list[str]:
    return [group for group in GROUPS if group == ALL or group in queries.groups]


def _scores(runs: Seeds, seeds: Sequence[int], metric: str) -> Tensor:
    return torch.stack([runs[seed].scores(metric) for seed in seeds])


def _same_queries(variants: Mapping[str, Seeds]) -> None:
    first: tuple[str, Scores] | None = None
    for name, runs in variants.items():
        for queries in runs.values():
            if first is None:
                first = name, queries
            elif not queries.same_queries(first[1]):
                raise ValueError(
                    f"{name} and {first[0]} were tested on different queries: "
                    f"{len(queries.groups)} and {len(first[1].groups)}, or others"
                )


def _effect(a_S: Tensor, b_S: Tensor) -> float | None:
    if len(a_S) < 2:
        return None
    spread = ((a_S.var() + b_S.var()) / 2).sqrt()
    return float((a_S - b_S).mean() / spread) if spread > 1e-12 else None


def _share(t_R: Tensor, observed: Tensor) -> float:
    return (1 + int((t_R >= observed).sum())) / (1 + len(t_R))
