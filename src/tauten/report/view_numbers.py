"""The numbers of a report on two views: accuracies with intervals, and paired differences.

Replicates draw the test images of each class with replacement, classes held fixed, as
:func:`tauten.evaluation.accuracy` does, and of several seeds the seeds too; a pair of runs is drawn
together, so that what is common to them cancels.

Shape suffixes: Q test images, C classes, G groups, K columns of scores, R replicates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tauten.evaluation import Difference, Estimate
from tauten.evaluation.bootstrap import sums_within
from tauten.evaluation.intervals import over_seeds_and_queries, student
from tauten.outcome import ALL, CLASSES
from tauten.report.numbers import Cell, Numbers, baselines
from tauten.report.runs import GROUP_ORDER, KNN, Run
from tauten.report.view_runs import ViewTest, neighbours
from tauten.report.words import metric_name


@dataclass(frozen=True)
class ViewNumbers(Numbers):
    """All numbers of a report on two views.

    Attributes:
        tests: By (run, seed).
    """

    tests: dict[tuple[str, int], ViewTest] = field(default_factory=dict)

    def key(self, direction: str, group: str, metric: str) -> str:
        """Name of a number in results.json."""
        return metric + {ALL: "", CLASSES: "/class_mean"}.get(group, f"/class_mean/{group}")

    def heading(self, direction: str, group: str) -> str:
        """Return the heading of a group's rows."""
        if group == ALL:
            return "All test images"
        test = next(iter(self.tests.values()))
        size = int((shares(test, [group])[0] > 0).sum())
        return f"Mean over {size:,} classes{'' if group == CLASSES else f' of {group}'}"

    def validation(self, primary: str) -> list[tuple[str, str]]:
        """Return (name in history.jsonl, heading) of what is drawn over training."""
        heading = f"validation {metric_name(primary)}, mean over classes"
        return [(f"val/{primary}/class_mean", heading)]


def collect(runs: Sequence[Run], bootstrap: int, seed: int) -> ViewNumbers:
    """Gather and compare; baselines as for pairs.

    Runs are compared image by image. Where a run recorded the accuracy of a linear probe alone, and
    not which images it has right, the probe is not compared.
    """
    tests = {(run.name, s.seed): ViewTest.of(s) for run in runs for s in run.seeds}
    first = tests[runs[0].name, runs[0].first.seed]
    found = {first.groups[c] for c in first.of_x.unique().tolist()}
    groups = [ALL, CLASSES, *(name for name in GROUP_ORDER if name in found)]
    metrics = _metrics(runs)
    chosen, notes = baselines(runs)
    means, drawn = _replicates(tests, metrics, groups, bootstrap, seed)
    share_GC = shares(first, groups)
    sizes = [int(torch.isin(first.of_x, (row > 0).nonzero()).sum()) for row in share_GC]
    numbers = ViewNumbers(
        runs=runs,
        baselines=chosen,
        metrics=metrics,
        groups=groups,
        cells={},
        queries={("", group): size for group, size in zip(groups, sizes, strict=True)},
        notes=notes,
        directions={"": "Mean over classes"},
        overall=CLASSES,
        tests=tests,
    )
    for g, group in enumerate(groups):
        for metric in metrics:
            at = {
                (name, number): (float(means[name, number, metric][g]), draws[:, g])
                for (name, number, kind), draws in drawn.items()
                if kind == metric
            }
            for run in runs:
                own = _estimate(numbers, run, group, metric, at)
                base = next((r for r in runs if r.name == chosen.get(run.name)), None)
                gain = None
                if base is not None:
                    gain = _difference(run, base, at, sizes[g])
                numbers.cells[run.name, "", group, metric] = Cell(own, gain, 1)
    return replace(numbers, notes=[*notes, *_disagreements(numbers, means)])


def shares(test: ViewTest, groups: Sequence[str]) -> Tensor:
    """Return (G, C) share of each class in the mean of a group; by images in "all", else alike."""
    size_C = torch.bincount(test.of_x, minlength=len(test.names)).double()
    rows = []
    for group in groups:
        member = torch.tensor([group in (ALL, CLASSES, name) for name in test.groups])
        part = size_C if group == ALL else ((size_C > 0) & member).double()
        rows.append(part / part.sum())
    return torch.stack(rows)


def _metrics(runs: Sequence[Run]) -> list[str]:
    """Return neighbours, then probes that have an interval, as far as all runs recorded them."""
    recorded = [set(seed.metrics) for run in runs for seed in run.seeds]
    names = [name for name in runs[0].first.metrics if "/" not in name]
    found = [name for name in names if all(name in keys for keys in recorded)]
    near = [name for name in found if name.startswith(KNN)]
    probes = [name for name in found if all(f"{name}/low" in keys for keys in recorded)]
    return [*sorted(near, key=neighbours), *(name for name in probes if not name.startswith(KNN))]


def _replicates(
    tests: dict[tuple[str, int], ViewTest],
    metrics: Sequence[str],
    groups: Sequence[str],
    bootstrap: int,
    seed: int,
) -> tuple[dict[tuple[str, int, str], Tensor], dict[tuple[str, int, str], Tensor]]:
    """Return accuracies (G,) and replicates (R, G) by (run, seed, metric), of the same draws."""
    first = next(iter(tests.values()))
    keys = [(*key, metric) for key in tests for metric in metrics if metric in tests[key].right]
    if not keys:
        return {}, {}
    right = [tests[name, number].right[metric] for name, number, metric in keys]
    score_KQ = torch.stack(right).double()
    size_Q = torch.bincount(first.of_x)[first.of_x]
    share_GQ = shares(first, groups)[:, first.of_x] / size_Q
    generator = torch.Generator().manual_seed(seed)
    parts = [score_KQ * share_Q for share_Q in share_GQ]
    of_groups = sums_within(parts, first.of_x, bootstrap, generator)
    mean_GK = torch.stack([mean_K for mean_K, _ in of_groups])
    drawn_RGK = torch.stack([drawn_RK for _, drawn_RK in of_groups], dim=1)
    return (
        {key: mean_GK[:, k] for k, key in enumerate(keys)},
        {key: drawn_RGK[:, :, k] for k, key in enumerate(keys)},
    )


Drawn = dict[tuple[str, int], tuple[float, Tensor]]


def _estimate(
    numbers: ViewNumbers,
    run: Run,
    group: str,
    metric: str,
    at: Drawn,
) -> Estimate:
    """Return the recorded value; for several seeds their mean, with the interval computed here."""
    key, queries = numbers.key("", group, metric), numbers.queries["", group]
    values = torch.tensor([s.metrics[key] for s in run.seeds], dtype=torch.float64)
    value = float(values.mean())
    if len(run.seeds) == 1 and f"{key}/low" in run.first.metrics:
        low, high = (run.first.metrics[f"{key}/{end}"] for end in ("low", "high"))
        return Estimate(value, float(low), float(high), queries, 1)
    if all((run.name, s.seed) in at for s in run.seeds):
        drawn = [at[run.name, s.seed][1] for s in run.seeds]
        ends = over_seeds_and_queries(values, torch.stack(drawn, dim=1))
        return Estimate(value, *ends, queries, len(run.seeds))
    widths = [float(s.metrics[f"{key}/high"]) - float(s.metrics[f"{key}/low"]) for s in run.seeds]
    of_images = sum(widths) / len(widths) / 2
    of_seeds = student(len(values) - 1) ** 2 * float(values.var()) / len(values)
    half = math.sqrt(of_images**2 + of_seeds)
    return Estimate(value, value - half, value + half, queries, len(run.seeds))


def _difference(run: Run, base: Run, at: Drawn, queries: int) -> Difference | None:
    """Return the difference over shared seeds; None unless all runs recorded every image."""
    shared = sorted({s.seed for s in run.seeds} & {s.seed for s in base.seeds})
    if not all((one.name, s) in at for one in (run, base) for s in shared):
        return None
    pairs = [(at[run.name, s], at[base.name, s]) for s in shared]
    value_S = torch.tensor([own - other for (own, _), (other, _) in pairs], dtype=torch.float64)
    drawn_RS = torch.stack([own - other for (_, own), (_, other) in pairs], dim=1)
    low, high = over_seeds_and_queries(value_S, drawn_RS)
    return Difference(float(value_S.mean()), low, high, queries, len(shared))


def _disagreements(numbers: ViewNumbers, means: dict[tuple[str, int, str], Tensor]) -> list[str]:
    """Return runs whose recorded accuracies are not those of what they have stored."""
    place, notes = numbers.groups.index(CLASSES), []
    seeds = {(run.name, one.seed): one for run in numbers.runs for one in run.seeds}
    for (name, seed, metric), mean in means.items():
        key, own = numbers.key("", CLASSES, metric), float(mean[place])
        recorded = seeds[name, seed].metrics[key]
        if abs(own - recorded) > 1e-3:
            source = "features give" if metric.startswith(KNN) else "recorded images give"
            notes.append(
                f"{name} (seed {seed}): results.json says {key} = {recorded:.4g}, "
                f"its {source} {own:.4g}."
            )
    return notes
