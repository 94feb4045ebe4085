"""Plots of results: differences, groups, similarities, the class tail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, NullLocator

from tauten.report.classes import BANDS, ByClass
from tauten.report.numbers import Numbers
from tauten.report.runs import KNN, Array, Run
from tauten.report.theme import DASHES, GROUPS, MARKERS, RUNS, TOKENS, Panel, plotted, shorten
from tauten.report.words import MINUS, interval, metric_name, number, with_ends

BINS_PER_BAR = 10
EDGES = np.linspace(-1, 1, 601)


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
    panels: list[Panel] = []
    ways, groups = numbers.directions, numbers.groups
    for run, base in numbers.compared():
        cells = {(d, g): numbers.cells[run.name, d, g, metric] for d in ways for g in groups}
        if any(cell.difference is None for cell in cells.values()):
            continue
        title = f"{run.name} minus {base.name}"
        name = f"difference-{metric.replace('@', '-')}-{run.name}"
        alt, size = f"{title}, {metric_name(metric)}, points", (4.1, 0.75 + 0.42 * len(groups))
        with plotted(panels, title, name, size, alt=alt) as plot:
            axes = plot.axes
            for place, (direction, marker) in enumerate(zip(ways, MARKERS, strict=False)):
                for row, group in enumerate(groups):
                    cell, gain = cells[direction, group], cells[direction, group].difference
                    assert gain is not None
                    at = [row + 0.32 * (place - (len(ways) - 1) / 2)]
                    color = TOKENS[RUNS[1]] if cell.measurable else TOKENS["muted"]
                    face = color if cell.measurable else TOKENS["paper"]
                    axes.plot([100 * gain.low, 100 * gain.high], at * 2, color=color)
                    look = {"color": color, "markersize": 4.5, "markerfacecolor": face}
                    axes.plot([100 * gain.value], at, marker, **look)
                    way = ways[direction].lower()
                    plot.said.append(f"{group}, {way} {with_ends(metric, gain)}")
                if len(ways) > 1:
                    axes.plot([], [], marker, color=TOKENS["ink"], label=ways[direction].lower())
            axes.axvline(0, color=TOKENS["ink"], linewidth=0.9)
            axes.set_yticks(range(len(groups)), [shorten(group) for group in groups])
            axes.set_ylim(len(groups) - 0.5, -0.5)
            axes.grid(visible=False, axis="y")
            axes.set_xlabel(f"difference in {metric_name(metric)}, points")
    return panels


def group_bars(numbers: Numbers, metric: str) -> list[Panel]:
    """Plot the metric by count group per direction: a bar per run, with error bars."""
    panels: list[Panel] = []
    groups, width = numbers.groups, 0.84 / len(numbers.runs)
    for direction, way in numbers.directions.items():
        title = way if len(numbers.directions) > 1 else metric_name(metric)
        name = f"groups-{direction}{metric.replace('@', '')}"
        alt = f"{way}, {metric_name(metric)} in percent by group"
        with plotted(panels, title, name, (4.1, 2.85), alt=alt) as plot:
            axes = plot.axes
            for k, run in enumerate(numbers.runs):
                at = np.arange(len(groups)) + width * (k - (len(numbers.runs) - 1) / 2)
                estimates = [numbers.cells[run.name, direction, g, metric].estimate for g in groups]
                value, low, high = 100 * np.array([(e.value, e.low, e.high) for e in estimates]).T
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
                look = {"ecolor": TOKENS["ink"], "elinewidth": 0.9, "capsize": 1.8}
                axes.errorbar(at, value, error, fmt="none", **look)
                note = (
                    f"{g} {number(metric, e.value)} ({interval(metric, e)})"
                    for g, e in zip(groups, estimates, strict=True)
                )
                plot.said.append(f"{run.name} {', '.join(note)}")
            sizes = [numbers.queries[direction, group] for group in groups]
            ticks = [f"{shorten(g, 20)}\nn = {n:,}" for g, n in zip(groups, sizes, strict=True)]
            axes.set_xticks(range(len(groups)), ticks)
            axes.grid(visible=False, axis="x")
            axes.set_ylim(bottom=0)
            axes.set_ylabel(f"{metric_name(metric)}, %")
    return panels


def similarities(numbers: Numbers) -> list[Panel]:
    """Plot cosines of three kinds per run."""
    cosine_of = {run.name: cosines(run) for run in numbers.runs}
    used = np.sum([weight for parts in cosine_of.values() for weight in parts.values()], axis=0)
    first = int(np.argmax(used > 0)) // BINS_PER_BAR * BINS_PER_BAR
    looks = (("run1", "-"), ("run2", DASHES[1]), ("muted", DASHES[2]))
    panels: list[Panel] = []
    for run in numbers.runs:
        alt = f"{run.name}, cosines"
        with plotted(panels, run.name, f"cosine-{run.name}", (4.1, 2.4), alt=alt) as plot:
            axes = plot.axes
            for (name, weight), (color, dash) in zip(
                cosine_of[run.name].items(), looks, strict=True
            ):
                if not weight.any():
                    continue
                bars = weight[first:].reshape(-1, BINS_PER_BAR).sum(axis=1)
                edges = EDGES[first::BINS_PER_BAR]
                density = bars / bars.sum() / np.diff(edges)
                axes.stairs(density, edges, fill=True, color=TOKENS[color], alpha=0.22)
                axes.stairs(density, edges, color=TOKENS[color], linestyle=dash, label=name)
                half = int(np.searchsorted(weight.cumsum(), weight.sum() / 2))
                middle = (EDGES[half] + EDGES[half + 1]) / 2
                plot.said.append(f"{name} {middle:.2f}".replace("-", MINUS))
            axes.set_xlabel("cosine similarity")
            axes.set_ylabel("density")
            axes.set_xlim(EDGES[first], 1)
            axes.set_ylim(bottom=0)
            plot.note = f"Medians: {', '.join(plot.said)}."
    return panels


def tail(run: Run) -> list[Panel]:
    """Plot training samples per class, largest first, on a logarithmic scale."""
    counts, panels = run.first.samples.get("label_counts", ()), list[Panel]()
    if not len(counts):
        return []
    size = np.sort(counts)[::-1]
    with plotted(panels, "The class tail", "tail", alt="Class sizes") as plot:
        axes, place = plot.axes, np.arange(1, len(size) + 1)
        axes.bar(place, size, 1.0, color=TOKENS["run1"], alpha=0.3, linewidth=0)
        axes.step(place, size, where="mid", color=TOKENS["run1"])
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))
        axes.set_ylim(0.8 * max(size[-1], 1), 1.6 * size[0])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.set_xlim(0.5, len(size) + 0.5)
        axes.set_xlabel("classes, largest first")
        axes.set_ylabel("training samples (log)")
        plot.note = (
            f"{len(size):,} classes; largest {size[0]:,}, median {np.median(size):,.10g}, "
            f"smallest {size[-1]:,}."
        )
        plot.said.append(plot.note)
    return panels


def by_class_size(numbers: Numbers, classes: ByClass | None) -> list[Panel]:
    """Plot each class's share of right queries over its training count, with means of bands."""
    if classes is None or np.count_nonzero(classes.counts) < 2:
        return []
    seen, panels = classes.counts > 0, list[Panel]()
    count = classes.counts[seen]
    bands = np.array_split(np.argsort(count, kind="stable"), min(BANDS, len(count)))
    middle = [float(np.exp(np.log(count[band]).mean())) for band in bands]
    for metric in (name for name in classes.metrics if name.startswith(KNN) or name == "hit@1"):
        title, name = f"{metric_name(metric)} by class size", f"class-{metric.replace('@', '')}"
        alt = f"{metric_name(metric)} from the smallest to the largest class, percent"
        with plotted(panels, title, name, (4.1, 3.1), alt=alt) as plot:
            for place, run in enumerate(numbers.runs):
                share, color = (
                    100 * classes.share[run.name, metric][seen],
                    run_color(numbers, run),
                )
                plot.axes.plot(count, share, ".", color=color, markersize=3, alpha=0.35)
                mean = [float(share[band].mean()) for band in bands]
                look = {"marker": MARKERS[place % 6], "linestyle": DASHES[place % 4]}
                look |= {"color": color, "markersize": 4, "label": numbers.label(run)}
                plot.axes.plot(middle, mean, **look)
                plot.said.append(f"{run.name} from {mean[0]:.1f} to {mean[-1]:.1f}")
            log_counts(plot.axes)
            plot.axes.set_ylim(0, 102)
            plot.axes.set_xlabel("training samples of the class (log)")
            plot.axes.set_ylabel(f"{metric_name(metric)}, %")
            plot.note = (
                "Points: classes. Lines: means over bands of as many classes each, sorted by size."
            )
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
        right_ones, wrong = (cosine.masked_fill(~s, -np.inf).amax(dim=1) for s in (right, ~right))
        parts = (cosine[right] if pairs else right_ones, wrong, cosine[~right])
        for name, values in zip(names, parts, strict=True):
            counts[name] += np.histogram(values[values.isfinite()].numpy(), EDGES)[0]
    return counts
