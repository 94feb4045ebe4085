"""Plots of results: differences, groups, similarities, the class tail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, NullLocator

from tauten.report.classes import BANDS, ByClass
from tauten.report.numbers import Numbers
from tauten.report.runs import KNN, Array, Run
from tauten.report.theme import (
    DASHES,
    GROUPS,
    MARKERS,
    RUNS,
    TOKENS,
    figure,
    legend_above,
    shorten,
    svg,
)
from tauten.report.words import MINUS, metric_name, number, signed

BINS_PER_BAR = 10
EDGES = np.linspace(-1, 1, 601)


@dataclass(frozen=True)
class Panel:
    """One plot with its heading and what a reader should know to read it."""

    title: str
    picture: Markup
    note: str = ""


def run_color(numbers: Numbers, run: Run) -> str:
    """Return the colour of a run, the same in every plot: the constant baseline first,
    then the others.
    """
    family = numbers.of_family(run.family)
    others = [r.name for r in family if r.name not in numbers.baselines.values()]
    if run.name not in others:
        return TOKENS[RUNS[0]]
    return TOKENS[RUNS[1 + others.index(run.name) % (len(RUNS) - 1)]]


def group_color(groups: Sequence[str], group: str) -> str:
    """Return the colour of a count group, the same in every plot."""
    return TOKENS[GROUPS[list(groups).index(group) % len(GROUPS)]]


def differences(numbers: Numbers, metric: str) -> list[Panel]:
    """Plot per comparison the paired difference to the baseline with its interval, by group.

    A comparison for which the numbers have no difference in this metric is left out.
    """
    panels = []
    for run, base in numbers.compared():
        gains = {
            (direction, group): numbers.cells[run.name, direction, group, metric]
            for direction in numbers.directions
            for group in numbers.groups
        }
        if any(cell.difference is None for cell in gains.values()):
            continue
        with figure((4.1, 0.75 + 0.42 * len(numbers.groups))) as drawing:
            axes = drawing.add_subplot()
            said = []
            middle = (len(numbers.directions) - 1) / 2
            markers = zip(numbers.directions.items(), MARKERS, strict=False)
            for place, ((direction, name), marker) in enumerate(markers):
                for row, group in enumerate(numbers.groups):
                    cell = gains[direction, group]
                    gain = cell.difference
                    assert gain is not None
                    height = row + 0.32 * (place - middle)
                    color = TOKENS[RUNS[1]] if cell.measurable else TOKENS["muted"]
                    axes.plot([100 * gain.low, 100 * gain.high], [height] * 2, color=color)
                    axes.plot(
                        [100 * gain.value],
                        [height],
                        marker,
                        color=color,
                        markersize=4.5,
                        markerfacecolor=color if cell.measurable else TOKENS["paper"],
                    )
                    said.append(
                        f"{group}, {name.lower()} {signed(metric, gain.value)} "
                        f"({signed(metric, gain.low)} to {signed(metric, gain.high)})"
                    )
                axes.plot([], [], marker, color=TOKENS["ink"], label=name.lower())
            axes.axvline(0, color=TOKENS["ink"], linewidth=0.9)
            axes.set_yticks(range(len(numbers.groups)), [shorten(g) for g in numbers.groups])
            axes.set_ylim(len(numbers.groups) - 0.5, -0.5)
            axes.grid(visible=False, axis="y")
            axes.set_xlabel(f"difference in {metric_name(metric)}, points")
            if len(numbers.directions) > 1:
                legend_above(axes)
            alt = f"{run.name} minus {base.name}, {metric_name(metric)}, points: {'; '.join(said)}"
            picture = svg(drawing, f"difference-{metric.replace('@', '-')}-{run.name}", alt)
        panels.append(Panel(f"{run.name} minus {base.name}", picture))
    return panels


def group_bars(numbers: Numbers, metric: str) -> list[Panel]:
    """Plot the metric by count group per direction: a bar per run, with error bars."""
    panels = []
    for direction, name in numbers.directions.items():
        with figure((4.1, 2.85)) as drawing:
            axes = drawing.add_subplot()
            width = 0.84 / len(numbers.runs)
            said = []
            for k, run in enumerate(numbers.runs):
                at = np.arange(len(numbers.groups)) + width * (k - (len(numbers.runs) - 1) / 2)
                cells = [numbers.cells[run.name, direction, g, metric] for g in numbers.groups]
                value = np.array([100 * cell.estimate.value for cell in cells])
                low = np.array([100 * cell.estimate.low for cell in cells])
                high = np.array([100 * cell.estimate.high for cell in cells])
                family = numbers.families.index(run.family)
                axes.bar(
                    at,
                    value,
                    0.9 * width,
                    color=run_color(numbers, run),
                    alpha=0.85 if family == 0 else 0.5,
                    hatch=("", "////", "....", "xxxx")[family % 4],
                    edgecolor=TOKENS["paper"],
                    linewidth=0,
                    label=numbers.label(run),
                )
                error = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
                axes.errorbar(
                    at, value, error, fmt="none", ecolor=TOKENS["ink"], elinewidth=0.9, capsize=1.8
                )
                said.append(
                    f"{run.name} "
                    + ", ".join(
                        f"{g} {number(metric, cell.estimate.value)} "
                        f"({number(metric, cell.estimate.low)} to "
                        f"{number(metric, cell.estimate.high)})"
                        for g, cell in zip(numbers.groups, cells, strict=True)
                    )
                )
            ticks = [
                f"{shorten(g, 20)}\nn = {numbers.queries[direction, g]:,}" for g in numbers.groups
            ]
            axes.set_xticks(range(len(numbers.groups)), ticks)
            axes.grid(visible=False, axis="x")
            axes.set_ylim(bottom=0)
            axes.set_ylabel(f"{metric_name(metric)}, %")
            legend_above(axes)
            alt = f"{name}, {metric_name(metric)} in percent by group: {'; '.join(said)}"
            title = name if len(numbers.directions) > 1 else metric_name(metric)
            where = f"{direction}{metric.replace('@', '')}"
            picture = svg(drawing, f"groups-{where}", alt)
            panels.append(Panel(title, picture))
    return panels


def similarities(numbers: Numbers) -> list[Panel]:
    """Plot cosines of three kinds per run."""
    found = {run.name: cosines(run) for run in numbers.runs}
    used = np.sum([weight for parts in found.values() for weight in parts.values()], axis=0)
    first = int(np.argmax(used > 0)) // BINS_PER_BAR * BINS_PER_BAR
    looks = (("run1", "-"), ("run2", DASHES[1]), ("muted", DASHES[2]))
    panels = []
    for run in numbers.runs:
        with figure((4.1, 2.4)) as drawing:
            axes = drawing.add_subplot()
            medians = []
            for (name, weight), (color, dash) in zip(found[run.name].items(), looks, strict=True):
                if not weight.any():
                    continue
                bars = weight[first:].reshape(-1, BINS_PER_BAR).sum(axis=1)
                edges = EDGES[first::BINS_PER_BAR]
                density = bars / bars.sum() / np.diff(edges)
                axes.stairs(density, edges, fill=True, color=TOKENS[color], alpha=0.22)
                axes.stairs(density, edges, color=TOKENS[color], linestyle=dash, label=name)
                half = int(np.searchsorted(weight.cumsum(), weight.sum() / 2))
                middle = (EDGES[half] + EDGES[half + 1]) / 2
                medians.append(f"{name} {middle:.2f}".replace("-", MINUS))
            axes.set_xlabel("cosine similarity")
            axes.set_ylabel("density")
            axes.set_xlim(EDGES[first], 1)
            axes.set_ylim(bottom=0)
            legend_above(axes)
            note = f"Medians: {', '.join(medians)}."
            picture = svg(drawing, f"cosine-{run.name}", f"{run.name}, cosines. {note}")
        panels.append(Panel(run.name, picture, note))
    return panels


def tail(run: Run) -> Panel | None:
    """Plot training samples per class, largest first, on a logarithmic scale."""
    counts = run.first.samples.get("label_counts")
    if counts is None or not len(counts):
        return None
    size = np.sort(counts)[::-1]
    with figure() as drawing:
        axes = drawing.add_subplot()
        rank = np.arange(1, len(size) + 1)
        axes.bar(rank, size, 1.0, color=TOKENS["run1"], alpha=0.3, linewidth=0)
        axes.step(rank, size, where="mid", color=TOKENS["run1"])
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        axes.set_ylim(0.8 * max(size[-1], 1), 1.6 * size[0])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.set_xlim(0.5, len(size) + 0.5)
        axes.set_xlabel("classes, largest first")
        axes.set_ylabel("training samples (log)")
        note = (
            f"{len(size):,} classes; largest {size[0]:,}, median {np.median(size):,.10g}, "
            f"smallest {size[-1]:,}."
        )
        return Panel("The class tail", svg(drawing, "tail", f"Class sizes: {note}"), note)


def by_class_size(numbers: Numbers, found: ByClass | None) -> list[Panel]:
    """Plot each class's share of right queries over its training count, with means of bands."""
    if found is None or np.count_nonzero(found.counts) < 2:
        return []
    kept = found.counts > 0
    panels, count = [], found.counts[kept]
    bands = np.array_split(np.argsort(count, kind="stable"), min(BANDS, len(count)))
    middle = [float(np.exp(np.log(count[band]).mean())) for band in bands]
    for metric in (name for name in found.metrics if name.startswith(KNN) or name == "hit@1"):
        with figure((4.1, 3.1)) as drawing:
            axes = drawing.add_subplot()
            said = []
            for place, run in enumerate(numbers.runs):
                share, color = 100 * found.share[run.name, metric][kept], run_color(numbers, run)
                axes.plot(count, share, ".", color=color, markersize=3, alpha=0.35)
                mean = [float(share[band].mean()) for band in bands]
                look = {"marker": MARKERS[place % 6], "linestyle": DASHES[place % 4]}
                axes.plot(middle, mean, color=color, markersize=4, label=numbers.label(run), **look)
                said.append(f"{run.name} from {mean[0]:.1f} to {mean[-1]:.1f}")
            log_counts(axes)
            axes.set_ylim(0, 102)
            axes.set_xlabel("training samples of the class (log)")
            axes.set_ylabel(f"{metric_name(metric)}, %")
            legend_above(axes)
            alt = (
                f"{metric_name(metric)} of a class over its training samples, from the smallest to "
                f"the largest, percent: {'; '.join(said)}"
            )
            picture = svg(drawing, f"class-size-{metric.replace('@', '')}", alt)
        note = "Points: classes. Lines: means over bands of as many classes each, sorted by size."
        panels.append(Panel(f"{metric_name(metric)} by class size", picture, note))
    return panels


def log_counts(axes: Any) -> None:
    """Draw a logarithmic axis of training counts."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def cosines(run: Run) -> dict[str, Array]:
    """Return histograms of cosines of the first seed.

    Of pairs one is of matching pairs, one of each x's hardest wrong y, one of all wrong pairs; of
    two views one of each test image's nearest training image of its class, one of the nearest of
    another class, one of all of other classes.
    """
    pairs = run.task == "pairs"
    names = ("matching", "hardest wrong", "all wrong")
    if not pairs:
        names = ("nearest of its class", "nearest of another", "all of others")
    counts = {name: np.zeros(len(EDGES) - 1) for name in names}
    for cosine, right in next(iter(run.first.searches.values())).blocks():
        cosine = cosine.clamp(-1, 1)
        own, wrong = (cosine.masked_fill(~s, -np.inf).amax(dim=1) for s in (right, ~right))
        parts = (cosine[right] if pairs else own, wrong, cosine[~right])
        for name, values in zip(names, parts, strict=True):
            counts[name] += np.histogram(values[values.isfinite()].numpy(), EDGES)[0]
    return counts
