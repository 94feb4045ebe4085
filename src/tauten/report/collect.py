"""Numbers collected from runs: intervals, and differences paired by query and seed.

Shape suffixes: Q queries of a group, S seeds, R replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from tauten.evaluation import Difference, Estimate
from tauten.evaluation.bootstrap import Statistic, Strata, replicates, share_ends
from tauten.evaluation.intervals import over_seeds_and_queries, student
from tauten.outcome import ALL
from tauten.outcome.metrics import CLASS_MAP, KS, MEAN_RECALL
from tauten.report.numbers import GRADED, LOWER_IS_BETTER, Cell, Numbers, key
from tauten.report.runs import KNN, Run, SeedRun
from tauten.structure.cells import counted

_SHARES = ("hit@", "recall@")


def collect(runs: Sequence[Run], bootstrap: int, seed: int) -> Numbers:
    """Gather and compare.

    A family's baseline is its first run with a constant control, preferably one matched to the
    schedule's mean. Runs are paired by query and, with several seeds, by seed. Replicates draw
    queries as :meth:`tauten.outcome.Outcome.drawn` says. Where a run recorded a metric and not the
    outcome of each query, the metric is not compared.
    """
    first = runs[0].first
    groups, metrics = first.outcome.group_names(), _metrics(runs)
    chosen, notes = baselines(runs)
    numbers = Numbers(runs, chosen, metrics, groups, {}, {}, ())
    for direction in first.outcome.sides:
        for group in groups:
            drawn = first.outcome.drawn(direction, group)
            numbers.queries[direction, group] = drawn.number
            for metric in metrics:
                scores = {run.name: _scores(run, direction, metric) for run in runs}
                known = next((s for of_run in scores.values() for s in of_run.values()), None)
                rows, clusters = drawn.rows, drawn.clusters
                if known is not None:
                    defined = ~known[rows].isnan()
                    rows = rows[defined]
                    clusters = None if clusters is None else clusters[defined]
                number = len(rows) if drawn.strata is None else drawn.number
                how = _Resampling(bootstrap, seed, rows, clusters, drawn.strata, number, metric)
                parts = how.of(scores)
                for run in runs:
                    name = key(direction, group, metric)
                    gain = None
                    if run.name in chosen:
                        base = numbers.run(chosen[run.name])
                        gain = _difference(run, base, parts, number)
                    estimate = _estimate(run, name, parts[run.name], how)
                    sign = -1 if metric in LOWER_IS_BETTER else 1
                    numbers.cells[run.name, direction, group, metric] = Cell(estimate, gain, sign)
    notes += [*_left_out(runs, metrics), *_disagreements(numbers)]
    return replace(numbers, notes=notes)


def _metrics(runs: Sequence[Run]) -> list[str]:
    """Return the metrics that all runs have, in column order."""
    seeds = [seed for run in runs for seed in run.seeds]
    recorded = set[str].intersection(*(set(seed.metrics) for seed in seeds))
    if runs[0].task == "views":
        names = [name for name in seeds[0].metrics if name in recorded and "/" not in name]
        near = sorted((n for n in names if n.startswith(KNN)), key=_number)
        probes = [n for n in names if not n.startswith(KNN) and f"{n}/low" in recorded]
        return [*near, *probes]
    names = [n.removeprefix("x2y/") for n in seeds[0].metrics if n.startswith("x2y/")]
    several = any(len(matches) > 1 for matches in seeds[0].y_of_x)
    kinds = _SHARES if several else _SHARES[:1]
    chosen = [n for kind in kinds for n in names if n.startswith(kind) and "/" not in n]
    chosen.sort(key=lambda name: (name.split("@")[0], _number(name)))
    mean = [MEAN_RECALL] if {f"hit@{k}" for k in KS} <= set(names) else []
    both = [name for name in GRADED if all(name in s.outcome.first.scores for s in seeds)]
    return [*chosen, *mean, "mAP", *both, *_of_classes(runs), *LOWER_IS_BETTER]


def _number(metric: str) -> int:
    return int(metric.partition("@")[2])


def _of_classes(runs: Sequence[Run]) -> list[str]:
    """Return the metrics of classes that all groups have, if the runs have the same classes."""
    first = runs[0].first
    if not first.labels or any(s.labels != first.labels for run in runs for s in run.seeds):
        return []
    if any(not {*CLASS_MAP} <= {*s.outcome.first.scores} for run in runs for s in run.seeds):
        return []
    return [
        metric
        for metric in CLASS_MAP
        if not any(
            side.score(metric)[first.outcome.drawn(way, group).rows].isnan().all()
            for way, side in first.outcome.sides.items()
            for group in first.outcome.group_names()
        )
    ]


def _left_out(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """Say which queries have no value of a metric, and which metrics there are not."""
    first, notes = runs[0].first, []
    same = all(seed.labels == first.labels for run in runs for seed in run.seeds)
    of_classes = CLASS_MAP if first.task == "pairs" and first.labels and same else ()
    for metric in (*of_classes, *GRADED):
        for way, side in first.outcome.sides.items():
            missing = int(side.score(metric).isnan().sum()) if metric in side.scores else 0
            name = key(way, ALL, metric)
            if metric in CLASS_MAP and metric not in metrics:
                notes.append(f"{name} is not shown: a group has no two of one class.")
            elif missing and metric in metrics:
                what = "another of their class" if metric in CLASS_MAP else "a relevant candidate"
                notes.append(
                    f"{name} leaves out {counted(missing, 'query', 'queries')} without {what}."
                )
    return notes


def baselines(runs: Sequence[Run]) -> tuple[dict[str, str], list[str]]:
    """Return the baseline of each run that has one, by name,
    and what a reader must know of the others.
    """
    chosen, notes = {}, []
    for family in dict.fromkeys(run.family for run in runs):
        members = [run for run in runs if run.family == family]
        constant = [run for run in members if run.control == "constant"]
        constant.sort(key=lambda run: not _matched(run))
        if not constant:
            notes.append(f"{family} has no run with a constant {members[0].knob} to compare with.")
            continue
        for run in members:
            if run is constant[0]:
                continue
            if {s.seed for s in run.seeds} & {s.seed for s in constant[0].seeds}:
                chosen[run.name] = constant[0].name
            else:
                notes.append(f"{run.name} has no seed in common with {constant[0].name}.")
    return chosen, notes


def _matched(run: Run) -> bool:
    control = run.first.config.get("control")
    return isinstance(control, dict) and control.get("kind") == "matched"


def _score(seed: SeedRun, direction: str, metric: str) -> Tensor | None:
    """Return (queries,) scores of a direction; None where only their mean was recorded."""
    side = seed.outcome.sides[direction]
    return side.score(metric) if side.ranks is not None or metric in side.scores else None


def _scores(run: Run, direction: str, metric: str) -> dict[int, Tensor]:
    """Return (queries,) scores by seed, of the seeds that have them."""
    scores = {seed.seed: _score(seed, direction, metric) for seed in run.seeds}
    return {seed: score for seed, score in scores.items() if score is not None}


class _Part(NamedTuple):
    """Values of a run and their replicates, of the same draws for all runs.

    Attributes:
        seeds: seeds that have a score of each query.
        scores: (S, Q) of these.
        values: (S,) their statistic.
        drawn: (R, S) its replicates.
    """

    seeds: list[int]
    scores: Tensor
    values: Tensor
    drawn: Tensor


class _Resampling(NamedTuple):
    """Settings of the bootstrap that finds intervals.

    Attributes:
        bootstrap: replicates.
        seed: seed of the draws.
        rows: (Q,) long, the queries of the group.
        clusters: (Q,) long, queries drawn together.
        strata: parts of which queries are drawn.
        number: number of queries that the mean is over.
        metric: the metric whose statistic is taken.
    """

    bootstrap: int
    seed: int
    rows: Tensor
    clusters: Tensor | None
    strata: Strata | None
    number: int
    metric: str

    def of(self, scores: Mapping[str, Mapping[int, Tensor]]) -> dict[str, _Part | None]:
        """Return the replicates of each run's scores by seed; None where a run has none."""
        parts: dict[str, _Part | None] = dict.fromkeys(scores)
        if not any(scores.values()):
            return parts
        stacked = {
            name: torch.stack([*of_run.values()])[:, self.rows].double()
            for name, of_run in scores.items()
            if of_run
        }
        statistic: Statistic = "median" if self.metric == "median_rank" else "mean"
        drawn = replicates(
            [*stacked.values()],
            [statistic] * len(stacked),
            self.bootstrap,
            self.seed,
            clusters=self.owners(),
            strata=self.strata,
        )
        for (name, score_SQ), both in zip(stacked.items(), drawn, strict=True):
            parts[name] = _Part([*scores[name]], score_SQ, *both)
        return parts

    def owners(self) -> Tensor | None:
        """Return (Q,) numbers 0, 1, ... of the clusters."""
        return None if self.clusters is None else self.clusters.unique(return_inverse=True)[1]


def _estimate(run: Run, name: str, part: _Part | None, how: _Resampling) -> Estimate:
    """Return the recorded value; for several seeds their mean, with the interval computed here.

    Where the outcome of each query was not recorded the interval is normal, from the recorded ones
    and the spread over seeds.
    """
    recorded = [float(s.metrics[name]) for s in run.seeds if name in s.metrics]
    ends = [run.first.metrics.get(f"{name}/{end}") for end in ("low", "high")]
    seeds = len(run.seeds)
    if len(recorded) == seeds == 1 and None not in ends:
        low, high = (float(end) for end in ends if end is not None)
        return Estimate(recorded[0], low, high, how.number, 1)
    value = sum(recorded) / seeds
    if part is None or len(part.seeds) < seeds:
        width = [float(s.metrics[f"{name}/high"] - s.metrics[f"{name}/low"]) for s in run.seeds]
        spread = float(torch.tensor(recorded, dtype=torch.float64).var()) / seeds
        half = math.hypot(sum(width) / seeds / 2, student(seeds - 1) * math.sqrt(spread))
        return Estimate(value, value - half, value + half, how.number, seeds)
    share = how.strata is None and how.metric.startswith(_SHARES)
    own_ends = share_ends(part.scores, how.owners()) if share else None
    low, high = over_seeds_and_queries(part.values, part.drawn, own_ends)
    if len(recorded) < seeds:
        value = float(part.values.mean())
    return Estimate(value, low, high, how.number, seeds)


def _difference(
    run: Run, base: Run, parts: Mapping[str, _Part | None], number: int
) -> Difference | None:
    """Return the difference over shared seeds; None unless both recorded every query of these."""
    shared = sorted({s.seed for s in run.seeds} & {s.seed for s in base.seeds})
    sides = []
    for part in (parts[run.name], parts[base.name]):
        if part is None or not {*shared} <= {*part.seeds}:
            return None
        at = [part.seeds.index(seed) for seed in shared]
        sides.append((part.values[at], part.drawn[:, at]))
    (value_a, drawn_a), (value_b, drawn_b) = sides
    low, high = over_seeds_and_queries(value_a - value_b, drawn_a - drawn_b)
    value = float(value_a.mean()) - float(value_b.mean())
    return Difference(value, low, high, number, len(shared))


def _disagreements(numbers: Numbers) -> list[str]:
    """Return runs whose recorded metrics are not those of their queries."""
    notes = []
    for run in numbers.runs:
        for seed in run.seeds:
            for direction in numbers.directions:
                drawn = seed.outcome.drawn(direction, numbers.overall)
                for metric in numbers.metrics:
                    name = key(direction, numbers.overall, metric)
                    score = _score(seed, direction, metric)
                    if score is None or name not in seed.metrics:
                        continue
                    if drawn.strata is not None:
                        mean = float(drawn.strata.share @ score)
                    elif metric == "median_rank":
                        mean = float(score.quantile(0.5))
                    else:
                        mean = float(score.nanmean())
                    recorded = float(seed.metrics[name])
                    if abs(mean - recorded) > 1e-3 * max(1.0, abs(recorded)):
                        notes.append(
                            f"{run.name} (seed {seed.seed}): results.json says {name}"
                            f" = {recorded:.4g}, its queries give {mean:.4g}."
                        )
    return notes
