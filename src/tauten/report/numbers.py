"""The numbers of a report: every metric with its interval, and the paired difference to the
constant baseline of the same family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tauten.evaluation import Difference, Estimate, bootstrap_mean, paired_bootstrap
from tauten.evaluation.bootstrap import Statistic
from tauten.outcome import ALL
from tauten.outcome.metrics import KS, MEAN_RECALL
from tauten.report.runs import Run, SeedRun

DIRECTIONS = {"x2y": "Image to text", "y2x": "Text to image"}
CLASS_MAP = {
    "class_map_across": {"x2y": "x2y", "y2x": "y2x"},
    "class_map_within": {"x2y": "x2x", "y2x": "y2y"},
}
"""mAP of the same class, and what is searched for the queries of a direction."""
LOWER_IS_BETTER = ("median_rank", "mean_rank")


@dataclass(frozen=True)
class Cell:
    """One number of the table.

    Attributes:
        estimate: Value (mean over seeds) and interval.
        difference: Paired difference to the baseline, or None where there is none.
        better: Sign of the difference that is good, 1 or -1.
    """

    estimate: Estimate
    difference: Difference | None
    better: int

    @property
    def measurable(self) -> bool:
        """True where the value is better or worse than its baseline."""
        return self.verdict in ("better", "worse")

    @property
    def verdict(self) -> str:
        """ "better", "worse", "same" (no measurable difference), "unknown" (from one
        seed, which tells nothing of others) or "" (not compared)."""
        if self.difference is None:
            return ""
        if self.difference.seeds < 2:
            return "unknown"
        if not self.difference.measurable:
            return "same"
        return "better" if self.difference.value * self.better > 0 else "worse"


@dataclass(frozen=True)
class Numbers:
    """All numbers of a report.

    Attributes:
        runs: The runs, in order of presentation.
        baselines: Name of the baseline of each run that is not one.
        metrics: Metric names, such as "hit@1", in column order.
        groups: Group names, "all" first.
        cells: By (run, direction, group, metric).
        queries: Number of queries by (direction, group).
        notes: What a reader must know about them.
        directions: Names of what is searched by what.
        overall: The group that a verdict is about.
    """

    runs: Sequence[Run]
    baselines: dict[str, str]
    metrics: Sequence[str]
    groups: Sequence[str]
    cells: dict[tuple[str, str, str, str], Cell]
    queries: dict[tuple[str, str], int]
    notes: Sequence[str]
    directions: Mapping[str, str] = field(default_factory=DIRECTIONS.copy)
    overall: str = ALL

    @property
    def by_count(self) -> list[str]:
        """The groups that go by the training count of a class."""
        return [group for group in self.groups if group not in (ALL, self.overall)]

    def key(self, direction: str, group: str, metric: str) -> str:
        """Name of a number in results.json."""
        return _key(direction, group, metric)

    def heading(self, direction: str, group: str) -> str:
        """Return the heading of a group's rows."""
        return f"{self.directions[direction]}, {'all queries' if group == ALL else group}"

    def validation(self, primary: str) -> list[tuple[str, str]]:
        """Return (name in history.jsonl, heading) of what is drawn over training."""
        return [
            (f"val/{_key(direction, ALL, primary)}", f"validation {primary}, {name.lower()}")
            for direction, name in self.directions.items()
        ]

    def run(self, name: str) -> Run:
        """Return the run of that name."""
        return next(run for run in self.runs if run.name == name)

    def label(self, run: Run, within_family: bool = False) -> str:
        """Return a run in a legend: its loss and control,
        or its name where these do not tell it apart.
        """
        alike = [r for r in self.of_family(run.family) if r.control == run.control]
        if len(alike) > 1:
            return run.name
        if within_family or len(self.families) == 1:
            return run.control
        return f"{run.family}, {run.control}"

    @property
    def families(self) -> list[str]:
        """Families in order of presentation."""
        return list(dict.fromkeys(run.family for run in self.runs))

    def of_family(self, family: str) -> list[Run]:
        """Return the runs of one family."""
        return [run for run in self.runs if run.family == family]

    def compared(self) -> Iterator[tuple[Run, Run]]:
        """Yield (run, its baseline) for every run that has one."""
        for run in self.runs:
            if run.name in self.baselines:
                yield run, self.run(self.baselines[run.name])


def collect(runs: Sequence[Run], bootstrap: int, seed: int) -> Numbers:
    """Gather and compare.

    A family's baseline is its first run with a constant control, preferably one matched to the
    schedule's mean. Runs are paired by query and, with several seeds, by seed.
    """
    groups = runs[0].first.outcome.group_names()
    metrics = _metrics(runs, groups)
    chosen, notes = baselines(runs)
    cells: dict[tuple[str, str, str, str], Cell] = {}
    queries: dict[tuple[str, str], int] = {}
    for direction in DIRECTIONS:
        for group in groups:
            rows = runs[0].first.outcome.drawn(direction, group).rows
            queries[direction, group] = len(rows)
            for metric in metrics:
                known = ~_score(runs[0].first, direction, metric)[rows].isnan()
                score = {run.name: _scores(run, direction, metric, rows[known]) for run in runs}
                together = _together(runs[0].first, direction, group)
                together = None if together is None else together[known]
                how = _Resampling(bootstrap, seed, together)
                for run in runs:
                    own = _estimate(run, direction, group, metric, score[run.name], how)
                    base = chosen.get(run.name)
                    other = next((r for r in runs if r.name == base), None)
                    gain = None
                    if other is not None:
                        gain = _difference(run, other, score, metric, how)
                    sign = -1 if metric in LOWER_IS_BETTER else 1
                    cells[run.name, direction, group, metric] = Cell(own, gain, sign)
    if all(seed.labels == runs[0].first.labels for run in runs for seed in run.seeds):
        notes += _without(runs[0].first, metrics)
    notes += _disagreements(runs, metrics)
    return Numbers(runs, chosen, metrics, groups, cells, queries, notes)


def _metrics(runs: Sequence[Run], groups: Sequence[str]) -> list[str]:
    names = [
        key.removeprefix("x2y/")
        for key in runs[0].first.metrics
        if key.startswith("x2y/") and key.count("/") == 1
    ]
    several = any(len(own) > 1 for own in runs[0].first.y_of_x)
    kinds = ("hit@", "recall@") if several else ("hit@",)
    chosen = [name for kind in kinds for name in names if name.startswith(kind)]
    chosen.sort(key=lambda name: (name.split("@")[0], int(name.split("@")[1])))
    mean = [MEAN_RECALL] if {f"hit@{k}" for k in KS} <= set(names) else []
    return [*chosen, *mean, "mAP", *_of_classes(runs, groups), "median_rank", "mean_rank"]


def _of_classes(runs: Sequence[Run], groups: Sequence[str]) -> list[str]:
    """Return the metrics of classes that all groups have, if the runs have the same classes."""
    first = runs[0].first
    if any(seed.labels != first.labels for run in runs for seed in run.seeds):
        return []
    if not first.class_precision:
        return []
    return [
        metric
        for metric in CLASS_MAP
        if not any(
            _score(first, direction, metric)[first.outcome.drawn(direction, group).rows]
            .isnan()
            .all()
            for direction in DIRECTIONS
            for group in groups
        )
    ]


def _without(first: SeedRun, metrics: Sequence[str]) -> list[str]:
    """Say which queries have no candidate of their class, and which metrics there are not."""
    notes = []
    for metric, ways in CLASS_MAP.items():
        for direction, way in ways.items() if first.labels else ():
            missing = int(_score(first, direction, metric).isnan().sum())
            if metric not in metrics:
                notes.append(f"class/{way}/mAP is not shown: a group has no two of one class.")
            elif missing:
                notes.append(
                    f"class/{way}/mAP leaves out {missing} queries without another of their class."
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


def _scores(run: Run, direction: str, metric: str, rows: Tensor) -> Tensor:
    """Return (seeds, queries in rows) per-query scores."""
    return torch.stack([_score(seed, direction, metric)[rows] for seed in run.seeds])


def _score(seed: SeedRun, direction: str, metric: str) -> Tensor:
    """Return (queries,) scores of all queries of a direction."""
    if metric in CLASS_MAP:
        return seed.class_precision[CLASS_MAP[metric][direction]]
    return seed.outcome.sides[direction].score(metric)


class _Resampling(NamedTuple):
    """Settings of the bootstrap that finds intervals.

    Attributes:
        bootstrap: replicates.
        seed: of the draws.
        clusters: (Q,) long, queries drawn together.
    """

    bootstrap: int
    seed: int
    clusters: Tensor | None


def _together(first: SeedRun, direction: str, group: str) -> Tensor | None:
    """Return the x of each y that queries, as the captions of one image go together; None for x."""
    return first.outcome.drawn(direction, group).clusters


def _statistic(metric: str) -> Statistic:
    return "median" if metric == "median_rank" else "mean"


def _key(direction: str, group: str, metric: str) -> str:
    name = f"{direction}/{metric}"
    if metric in CLASS_MAP:
        name = f"class/{CLASS_MAP[metric][direction]}/mAP"
    return name + ("" if group == ALL else f"/{group}")


def _estimate(
    run: Run,
    direction: str,
    group: str,
    metric: str,
    score_SQ: Tensor,
    how: _Resampling,
) -> Estimate:
    """Return the recorded value; for several seeds their mean, with the interval computed here."""
    key = _key(direction, group, metric)
    recorded = [float(r.metrics[key]) for r in run.seeds if key in r.metrics]
    ends = [run.first.metrics.get(f"{key}/{end}") for end in ("low", "high")]
    queries = score_SQ.shape[1]
    if len(recorded) == len(run.seeds) == 1 and None not in ends:
        low, high = (float(end) for end in ends if end is not None)
        return Estimate(recorded[0], low, high, queries, 1)
    found = bootstrap_mean(
        score_SQ,
        bootstrap=how.bootstrap,
        seed=how.seed,
        statistic=_statistic(metric),
        clusters=how.clusters,
        share=metric.startswith(("hit@", "recall@")),
    )
    if len(recorded) < len(run.seeds):
        return found
    mean = sum(recorded) / len(recorded)
    return Estimate(mean, found.low, found.high, queries, found.seeds)


def _difference(
    run: Run, base: Run, score: dict[str, Tensor], metric: str, how: _Resampling
) -> Difference:
    shared = sorted({s.seed for s in run.seeds} & {s.seed for s in base.seeds})
    own = torch.tensor([i for i, s in enumerate(run.seeds) if s.seed in shared])
    other = torch.tensor([i for i, s in enumerate(base.seeds) if s.seed in shared])
    return paired_bootstrap(
        score[run.name][own],
        score[base.name][other],
        bootstrap=how.bootstrap,
        seed=how.seed,
        statistic=_statistic(metric),
        clusters=how.clusters,
    )


def _disagreements(runs: Sequence[Run], metrics: Sequence[str]) -> list[str]:
    """Return runs whose recorded metrics are not those of their stored embeddings."""
    notes = []
    for run in runs:
        for seed in run.seeds:
            for direction in DIRECTIONS:
                for metric in metrics:
                    score = _score(seed, direction, metric)
                    own = score.quantile(0.5) if metric == "median_rank" else score.nanmean()
                    key = _key(direction, ALL, metric)
                    recorded = seed.metrics.get(key, float(own))
                    if abs(float(own) - recorded) > 1e-3 * max(1.0, abs(recorded)):
                        notes.append(
                            f"{run.name} (seed {seed.seed}): results.json says {key}"
                            f" = {recorded:.4g}, its embeddings give {float(own):.4g}."
                        )
    return notes
