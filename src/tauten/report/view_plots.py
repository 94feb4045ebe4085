"""Plots of two views: accuracy by the size of a class, and cosines to the nearest images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tauten.report.plots import Panel, histogram, log_counts, run_color
from tauten.report.runs import Array, Run
from tauten.report.theme import DASHES, MARKERS, figure, legend_above, svg
from tauten.report.view_numbers import ViewNumbers
from tauten.report.words import metric_name

BANDS = 8
"""Bands of classes of like size that a line goes through."""
_TILE = 1024


def by_class_size(numbers: ViewNumbers, metrics: Sequence[str]) -> list[Panel]:
    """Plot the accuracy of each class over its training count, per metric, with band means.

    Args:
        numbers: The runs.
        metrics: Neighbours, ``knn@K``.
    """
    panels = []
    for metric in metrics:
        with figure((4.1, 3.1)) as drawing:
            axes = drawing.add_subplot()
            said = []
            for place, run in enumerate(numbers.runs):
                count, accuracy = _of_classes(numbers, run, metric)
                color = run_color(numbers, run)
                axes.plot(count, 100 * accuracy, ".", color=color, markersize=3, alpha=0.35)
                bands = np.array_split(np.argsort(count, kind="stable"), min(BANDS, len(count)))
                middle = [float(np.exp(np.log(count[band]).mean())) for band in bands]
                mean = [100 * float(accuracy[band].mean()) for band in bands]
                axes.plot(
                    middle,
                    mean,
                    marker=MARKERS[place % 6],
                    linestyle=DASHES[place % 4],
                    color=color,
                    markersize=4,
                    label=numbers.label(run),
                )
                said.append(f"{run.name} from {mean[0]:.1f} to {mean[-1]:.1f}")
            log_counts(axes)
            axes.set_ylim(0, 102)
            axes.set_xlabel("training images of the class (log)")
            axes.set_ylabel(f"{metric_name(metric)}, %")
            legend_above(axes)
            alt = (
                f"{metric_name(metric)} of a class over its training images, from the smallest to "
                f"the largest, percent: {'; '.join(said)}"
            )
            picture = svg(drawing, f"class-size-{metric.split('@')[1]}", alt)
        note = "Points: classes. Lines: means over bands of as many classes each, sorted by size."
        panels.append(Panel(f"{metric_name(metric)} by class size", picture, note))
    return panels


def _of_classes(numbers: ViewNumbers, run: Run, metric: str) -> tuple[Array, Array]:
    """Return (classes,) training counts and accuracies, mean over seeds, of classes in both."""
    accuracy = []
    for seed in run.seeds:
        test = numbers.tests[run.name, seed.seed]
        size = torch.bincount(test.of_x, minlength=len(test.names))
        right = torch.bincount(test.of_x, test.right[metric].double(), minlength=len(test.names))
        accuracy.append(right / size)
    both = (size > 0) & (test.counts > 0)
    return test.counts[both].numpy(), torch.stack(accuracy).mean(dim=0)[both].numpy()


def cosines(numbers: ViewNumbers, run: Run) -> dict[str, Array]:
    """Return histograms of cosines, of the first seed.

    One is of each test image's nearest training image of its own class, one of the nearest of
    another class, one of all of other classes.
    """
    test = numbers.tests[run.name, run.first.seed]
    names = ("nearest of its class", "nearest of another", "all of others")
    counts = {name: histogram(np.zeros(0)) for name in names}
    for x, of_x in zip(test.x.split(_TILE), test.of_x.split(_TILE), strict=True):
        cosine = (x @ test.known.T).clamp(-1, 1)
        own = of_x[:, None] == test.of_known[None, :]
        best = [cosine.masked_fill(~side, -np.inf).amax(dim=1) for side in (own, ~own)]
        parts = [*(side[side.isfinite()] for side in best), cosine[~own]]
        for name, part in zip(names, parts, strict=True):
            counts[name] += histogram(part.numpy())
    return counts
