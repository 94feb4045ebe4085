"""Plots of what was logged over training: force, loss, gradient, validation, with the phase."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tauten.report.numbers import Numbers, key
from tauten.report.plots import group_color, run_color
from tauten.report.runs import GROUP_ORDER, Array, Run
from tauten.report.schedule import schedule
from tauten.report.theme import DASHES, MARKERS, TOKENS, Panel, plotted
from tauten.report.words import metric_name

PER_PERIOD = 4
"""Logged steps per period from which on means over periods are drawn."""

ENOUGH = 8
"""Logged steps per period from which on a log shows an oscillation."""

RANK = "tau/spearman"
"""Logged where the knob differs between samples."""

FORCES = ("attraction", "repulsion")
FORCE_NOTES = {
    "pairs": "Mean per image of the group in the batch of each logged step: attraction to its own "
    "caption, repulsion from the other captions.",
    "views": "Mean per image of the group in the batch of each logged step: attraction to its "
    "other view, repulsion from the views of others.",
}


def force_by_group(numbers: Numbers) -> list[Panel]:
    """Plot force per anchor in each count group, per run whose knob differs between samples."""
    panels: list[Panel] = []
    for run in numbers.runs:
        logged = {
            (kind, name): mean_history(run, f"force/{kind}/{name}")
            for kind in FORCES
            for name in GROUP_ORDER
        }
        names = [name for name in GROUP_ORDER if len(logged[FORCES[0], name][0])]
        if not names or not len(mean_history(run, RANK)[0]):
            continue
        last = max(float(logged[FORCES[0], name][0][-1]) for name in names)
        title = f"{run.name}: force on {', '.join(names)}"
        alt = f"{run.name}: mean force per anchor over training by group"
        with plotted(panels, title, f"force-{run.name}", (4.1, 3.9), alt=alt, rows=2) as plot:
            for axes, kind in zip(plot.axes, FORCES, strict=True):
                mark_phase(axes, run, last)
                for name in names:
                    step, value = logged[kind, name]
                    dash = DASHES[GROUP_ORDER.index(name)]
                    color = group_color(GROUP_ORDER, name)
                    axes.plot(step, value, color=color, linestyle=dash, label=name)
                    plot.said.append(f"{kind} of {name} from {value[0]:.3g} to {value[-1]:.3g}")
                axes.set_xlim(0, 1.01 * last)
                axes.set_ylim(bottom=0)
                axes.set_ylabel(kind)
            plot.axes[-1].set_xlabel("training step")
            plot.note = FORCE_NOTES[run.task]
    return panels


def rarely_logged(numbers: Numbers) -> list[str]:
    """Return a note for readers on each run whose log has few steps of each period."""
    notes = []
    for run in numbers.runs:
        steps = [int(row["step"]) for row in run.first.history if "tau/mean" in row]
        if run.period is None or len(steps) < 2:
            continue
        apart = max(b - a for a, b in pairwise(steps))
        if apart * ENOUGH <= run.period:
            continue
        exact = schedule(run.first) is not None
        notes.append(
            f"{run.name} was logged every {apart:,} steps, {run.period / apart:.1f} times a "
            "period: its curves of loss, gradient and force miss the oscillation. "
            + (
                f"Its {run.knob} is drawn from the schedule."
                if exact
                else f"So does that of its {run.knob}, which is as logged."
            )
        )
    return notes


def training(
    numbers: Numbers, logged: str, title: str, label: str, scale: float = 1
) -> list[Panel]:
    """Plot a logged quantity of every run per family, raw and averaged over whole periods.

    Args:
        numbers: The runs.
        logged: Name in history.jsonl.
        title: Heading.
        label: Of the vertical axis.
        scale: Factor of the values.
    """
    panels: list[Panel] = []
    for family in numbers.families:
        runs = numbers.of_family(family)
        oscillating = next((run for run in runs if run.period), None)
        period = None if oscillating is None else oscillating.period
        name = f"{logged.replace('/', '-').replace('@', '')}-{family}"
        alt = f"{family}, {title}"
        with plotted(panels, f"{family}: {title}", name, alt=alt) as plot:
            axes, last = plot.axes, 0.0
            for k, run in enumerate(runs):
                step, value = mean_history(run, logged)
                value = scale * value
                if not len(step):
                    continue
                last = max(last, float(step[-1]))
                look = {"color": run_color(numbers, run), "linestyle": DASHES[k % 4]}
                look["label"] = numbers.label(run, within_family=True)
                if period and len(step) * period >= PER_PERIOD * step[-1]:
                    axes.plot(step, value, color=look["color"], linewidth=0.8, alpha=0.45)
                    centre, average = _per_period(step, value, period)
                    axes.plot(centre, average, marker=MARKERS[k % 6], markersize=4, **look)
                else:
                    marker = MARKERS[k % 6] if len(step) < 40 else None
                    axes.plot(step, value, marker=marker, markersize=3.5, **look)
                plot.said.append(f"{run.name} from {value[0]:.3g} to {value[-1]:.3g}")
            mark_phase(axes, oscillating, last)
            axes.set_xlabel("training step")
            axes.set_ylabel(label)
            axes.set_xlim(0, 1.01 * last or 1)
    return panels


def mean_history(run: Run, key: str) -> tuple[Array, Array]:
    """Return (steps,), (values,): the mean over seeds at the steps that all seeds logged."""
    logs = [
        {int(row["step"]): float(row[key]) for row in seed.history if row.get(key) is not None}
        for seed in run.seeds
    ]
    shared = sorted(set.intersection(*(set(log) for log in logs)))
    return np.array(shared), np.array([np.mean([log[step] for log in logs]) for step in shared])


def _per_period(step: Array, value: Array, period: float) -> tuple[Array, Array]:
    """Return the mean over each whole period, placed at its centre."""
    index = np.floor((step - 1e-9) / period).astype(int).clip(0)
    whole = [k for k in range(index.max() + 1) if (k + 1) * period <= step[-1] * 1.02]
    sampled = [k for k in whole if (index == k).any()]
    return (np.array(sampled) + 0.5) * period, np.array([value[index == k].mean() for k in sampled])


def mark_phase(axes: Any, run: Run | None, last: float) -> None:
    """Draw lines at full periods of a run, and shade the half of each period below the mean."""
    period = None if run is None else run.period
    if run is None or not period or last <= 0:
        return
    # by epochs counted from 1 the middle of a held value is half an epoch early
    early = run.held // 2
    for k in range(int(np.ceil(last / period))):
        axes.axvspan(
            (k + 0.25) * period - early,
            min((k + 0.75) * period - early, last),
            color=TOKENS["muted"],
            alpha=0.13,
            linewidth=0,
            zorder=0,
        )
    for k in range(1, int(last / period + 1e-6) + 1):
        at = k * period - early
        axes.axvline(at, color=TOKENS["muted"], linewidth=0.8, linestyle=(0, (1, 2)))


def panels_over_training(numbers: Numbers, primary: str) -> Sequence[Panel]:
    """Plot loss, gradient norm and validation, per family."""
    panels = training(numbers, "loss", "training loss", "loss")
    panels += training(numbers, "grad_norm", "gradient norm", "norm")
    for way, name in numbers.directions.items():
        logged = f"val/{key(way, numbers.overall, primary)}"
        title = f"validation {metric_name(primary)}, {name.lower()}"
        panels += training(numbers, logged, title, f"{metric_name(primary)}, %", 100)
    return panels
