"""Paired differences to a baseline over seeds and queries, corrected for how many there are.

The difference d of two controls has two independent errors, A and B their variances:

* A, over seeds: other trainings would shift it. See :mod:`tauten.comparison.spread`.
* B, over queries: other test queries would shift all seeds alike. Replicates draw queries with
  replacement within head, mid and tail, the same for every control, so that what is common to a
  pair cancels and the share of each group stays as it is; B is the covariance of two seeds'
  replicates. In a mean over classes each drawn query weighs 1 over the size of its class.

Each part has its own distribution of |T| where there is no difference: over seeds simulated, over
queries that of the replicates, divided by the error of their standard deviation. With a and b the
quantiles of the two at a level,

    half² = a²·A + b²·B

has at least that level, whatever the ratio of A to B (for one interval a theorem, Banerjee 1961;
for all at once simulated, ``benchmarks/null.py``). The interval of a comparison
by itself takes the quantiles of its own |T|; simultaneous intervals those of the largest |T| over
all comparisons (single-step max-T, Westfall & Young 1993): with 95 % probability all of them hold.
p is 1 minus the highest level whose interval excludes 0.

With one seed A is unknown. Intervals and p are then over queries alone, and there is no verdict.

Shape suffixes: S seeds, N queries, R replicates, K comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tauten.comparison.errors import Compared, at_level, half_widths, query_part, seed_part
from tauten.evaluation.bootstrap import Estimate, bootstrap_mean, resample
from tauten.outcome import ALL, GROUPS, Outcome, weighted_mean

Verdict = Literal["same", "better", "worse", "one seed"]


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
        p: p of this comparison by itself.
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
        """ "better" or "worse" where the simultaneous interval excludes 0, else "same".

        From one seed there is none: "one seed".
        """
        if self.seeds < 2:
            return "one seed"
        if self.corrected_low > 0:
            return "better"
        return "worse" if self.corrected_high < 0 else "same"


Seeds = Mapping[int, Outcome]


def estimates(
    variants: Mapping[str, Seeds], metric: str, bootstrap: int = 2000, seed: int = 0
) -> dict[tuple[str, str], Estimate]:
    """Return the mean of each variant and group over seeds and queries,
    with its own 95 % interval.
    """
    intervals = {}
    for name, runs in variants.items():
        score_SN, queries = _scores(runs, sorted(runs), metric), next(iter(runs.values()))
        for group in _groups(queries, metric):
            members = queries.members(group, metric)
            weight_N = queries.weights(metric)[members]
            alike = bool((weight_N == weight_N[0]).all())
            score_SM = score_SN[:, members]
            if not alike:
                score_SM = score_SM * (weight_N / weight_N.mean())
            intervals[name, group] = bootstrap_mean(
                score_SM, bootstrap=bootstrap, seed=seed, share=alike
            )
    return intervals


def contrasts(
    variants: Mapping[str, Seeds],
    pairs: Sequence[tuple[str, str]],
    metric: str,
    bootstrap: int = 2000,
    seed: int = 0,
) -> list[Contrast]:
    """Return the differences a − b of these pairs, in all groups,
    corrected for all of them together.

    Args:
        variants: ranks of the same queries by seed, for each variant.
        pairs: (a, b) names. A pair without a seed in common is left out.
        metric: one of their :attr:`tauten.outcome.Outcome.known`.
        bootstrap: replicates.
        seed: seed of the resampling.

    Raises:
        ValueError: bootstrap < 1, or variants tested on different queries.
    """
    if bootstrap < 1:
        raise ValueError(f"bootstrap must be at least 1 replicate, not {bootstrap}")
    _same_queries(variants)
    compared = _compared(variants, pairs, metric, _Draws(bootstrap, seed))
    if not compared:
        return []
    value_K = torch.stack([one.values.mean() for one in compared])
    seeds_K, queries_K = seed_part(compared), query_part(compared, seed)
    own_RK, most_R = half_widths(seeds_K, queries_K)
    low_K, high_K = value_K - at_level(own_RK), value_K + at_level(own_RK)
    corrected_low_K, corrected_high_K = value_K - at_level(most_R), value_K + at_level(most_R)
    return [
        Contrast(
            a=one.a,
            b=one.b,
            group=one.group,
            value=float(value_K[k]),
            low=float(low_K[k]),
            high=float(high_K[k]),
            p=_share(own_RK[:, k], value_K[k]),
            corrected_low=float(corrected_low_K[k]),
            corrected_high=float(corrected_high_K[k]),
            corrected_p=_share(most_R[:, k], value_K[k]),
            effect=one.effect,
            seeds=len(one.values),
            queries=one.queries,
        )
        for k, one in enumerate(compared)
    ]


def _compared(
    variants: Mapping[str, Seeds], pairs: Sequence[tuple[str, str]], metric: str, drawn: _Draws
) -> list[Compared]:
    numbers = _numbers(variants, metric)
    compared = []
    for a, b in pairs:
        common = sorted(set(variants[a]) & set(variants[b]))
        if not common:
            continue
        a_SN, b_SN = (_scores(variants[name], common, metric) for name in (a, b))
        queries = variants[a][common[0]]
        weight_N = queries.weights(metric)
        for group, drawn_RS in drawn.of(a_SN - b_SN, metric, queries).items():
            members = queries.members(group, metric)
            a_S, b_S = (
                weighted_mean(score_SN[:, members], weight_N[members]) for score_SN in (a_SN, b_SN)
            )
            runs = numbers[a], numbers[b], tuple(common)
            effect = _effect(a_S, b_S)
            compared.append(Compared(a, b, runs, group, a_S - b_S, drawn_RS, effect, len(members)))
    return compared


def _numbers(variants: Mapping[str, Seeds], metric: str) -> dict[str, int]:
    """Number the variants, those with the same scores alike."""
    known: dict[tuple[tuple[int, bytes], ...], int] = {}
    return {
        name: known.setdefault(
            tuple((seed, runs[seed].scores(metric).numpy().tobytes()) for seed in sorted(runs)),
            len(known),
        )
        for name, runs in variants.items()
    }


class _Draws:
    """Multiplicities of queries in each group, the same for every comparison."""

    def __init__(self, replicates: int, seed: int) -> None:
        self.replicates, self.seed = replicates, seed
        self._kept: dict[tuple[str, int], Tensor] = {}

    def of(self, difference_SN: Tensor, metric: str, queries: Outcome) -> dict[str, Tensor]:
        """Return (R, S) replicates of each seed's mean difference in each group, and in all."""
        weight_N, scores = queries.weights(metric), dict[str, Tensor]()
        whole = torch.zeros(self.replicates, len(difference_SN), dtype=torch.float64)
        groups = [group for group in _groups(queries, metric) if group != ALL] or [ALL]
        for group in groups:
            members = queries.members(group, metric)
            weight_RN = self._counts(group, len(members)) * weight_N[members]
            weight_RN /= weight_RN.sum(dim=1, keepdim=True)
            scores[group] = weight_RN @ difference_SN[:, members].T
            whole += scores[group] * (weight_N[members].sum() / weight_N.sum())
        return {ALL: whole} | scores

    def _counts(self, what: str, size: int) -> Tensor:
        """Return (R, size) how often each is drawn."""
        if (what, size) not in self._kept:
            number = 1 + (ALL, *GROUPS).index(what)
            generator = torch.Generator().manual_seed(self.seed * 7 + number)
            self._kept[what, size] = torch.cat(list(resample(size, self.replicates, generator)))
        return self._kept[what, size]


def _groups(queries: Outcome, metric: str) -> list[str]:
    known = [group for group in (ALL, *GROUPS) if len(queries.members(group, metric))]
    if not known:
        raise ValueError(f"no query has another of its class, so none has {metric}")
    return known


def _scores(runs: Seeds, seeds: Sequence[int], metric: str) -> Tensor:
    return torch.stack([runs[seed].scores(metric) for seed in seeds])


def _same_queries(variants: Mapping[str, Seeds]) -> None:
    first: tuple[str, Outcome] | None = None
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


def _share(half_R: Tensor, value: Tensor) -> float:
    """Return p, the share of levels at which the interval holds 0."""
    return (1 + int((half_R >= value.abs() - 1e-12).sum())) / (1 + len(half_R))
