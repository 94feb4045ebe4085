"""Plots of the knob: over training, against the class count, by deciles of the count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tauten.outcome import ALL
from tauten.report.curves import RANK, mark_phase, mean_history
from tauten.report.numbers import Numbers
from tauten.report.plots import group_color, log_counts, run_color
from tauten.report.runs import GROUP_ORDER, Array, Run, SeedRun
from tauten.report.schedule import by_group, deciles, schedule
from tauten.report.theme import DASHES, DECILES, TOKENS, Panel, plotted
from tauten.report.words import MINUS


@dataclass(frozen=True)
class Curve:
    """A knob over training by group; of every step if ``exact``, else as logged.

    Shape suffixes: T steps, G groups.

    Attributes:
        step: (T,) steps.
        names: Of the groups.
        mean: (T, G) means.
        ends: Smallest and largest, (T, G) each, or (T, 0) where not recorded.
        exact: Whether it was computed from the schedule.
    """

    step: Array
    names: Sequence[str]
    mean: Array
    ends: tuple[Array, Array]
    exact: bool


def over_time(numbers: Numbers) -> list[Panel]:
    """Plot the knob over training of oscillating or shifted runs: a band per count group.

    A schedule is drawn at every step, whatever was logged.
    """
    panels: list[Panel] = []
    for run, base in _with_base(numbers):
        curve = _curve(run.first)
        if curve is None:
            continue
        title = f"{run.name}: {run.knob} over time"
        alt = f"{run.name}: mean {run.knob} over training by group"
        with plotted(panels, title, f"time-{run.name}", alt=alt) as plot:
            axes = plot.axes
            mark_phase(axes, run, float(curve.step[-1]))
            held = curve.exact and run.held > 1
            for g, name in enumerate(curve.names):
                color, mean = group_color(curve.names, name), curve.mean[:, g]
                if g < curve.ends[0].shape[1]:
                    low, high = (end[:, g] for end in curve.ends)
                    look = {"step": "post" if held else None, "alpha": 0.2, "linewidth": 0}
                    axes.fill_between(curve.step, low, high, color=color, **look)
                look = {"drawstyle": "steps-post" if held else "default", "label": name}
                axes.plot(curve.step, mean, color=color, linestyle=DASHES[g % 4], **look)
                plot.said.append(f"{name} {_range(mean[~np.isnan(mean)])}")
            _draw_constant(axes, base)
            axes.set_xlabel("training step")
            axes.set_ylabel(f"{run.knob} {run.symbol}")
            if len(curve.step) > 1:
                axes.set_xlim(curve.step[0], curve.step[-1])
            plot.note = (
                f"Group means range over {', '.join(plot.said)}. Band: smallest to largest in the "
                f"group.{' Drawn from the schedule, at every step.' if curve.exact else ''}"
            )
    return panels


def against_count(numbers: Numbers) -> list[Panel]:
    """Plot the knob at the last step against the class's training count, per shifted run."""
    panels: list[Panel] = []
    for run, base in _with_base(numbers):
        stored = run.first.samples
        last, counts = (stored.get(name, ()) for name in ("tau_final", "counts"))
        if not 0 < len(counts) == len(last):
            continue
        count, where = np.unique(counts, return_inverse=True)
        tau = np.bincount(where, last) / np.bincount(where)
        title = f"{run.name}: {run.knob} against count"
        alt = f"{run.name}: {run.knob} at the last step"
        with plotted(panels, title, f"count-{run.name}", alt=alt) as plot:
            color = run_color(numbers, run)
            plot.axes.plot(count, tau, "o", color=color, markersize=3.5, alpha=0.8)
            _draw_constant(plot.axes, base)
            log_counts(plot.axes)
            plot.axes.set_xlabel("training samples of the class (log)")
            plot.axes.set_ylabel(f"{run.knob} {run.symbol}, last step")
            plot.said.append(
                f"{tau[0]:.3g} at count {count[0]:,} to {tau[-1]:.3g} at count {count[-1]:,}"
            )
            plot.note = _phase_note(run)
    return panels


def by_decile(numbers: Numbers) -> list[Panel]:
    """Plot the knob's mean in each decile of class count, per run where it differs."""
    panels: list[Panel] = []
    for run in numbers.runs:
        ranked, rank = mean_history(run, RANK)
        lines = _deciles(run)
        if not lines or not len(rank):
            continue
        ends = {min(lines): "rarest classes", max(lines): "most frequent classes"}
        title = f"{run.name}: {run.knob} by class count"
        alt = f"{run.name}: mean {run.knob} over training by class count"
        with plotted(panels, title, f"decile-{run.name}", alt=alt) as plot:
            mark_phase(plot.axes, run, float(ranked[-1]))
            for k, line in lines.items():
                look = {"color": TOKENS[DECILES[k]], "linewidth": 1.1}
                plot.axes.plot(*line, label=ends.get(k), **look)
            plot.axes.set_xlabel("training step")
            plot.axes.set_ylabel(f"{run.knob} {run.symbol}")
            plot.axes.set_xlim(0, 1.01 * ranked[-1])
            ranges = (f"{ends[k]} {_range(lines[k][1])}" for k in ends)
            plot.said.append(", ".join(ranges))
            plot.note = (
                "Each line is a mean over samples of about a tenth of the training set, sorted by "
                f"class count. Rank correlation of {run.knob} and class count at step "
                f"{ranked[-1]:,}: {rank[-1]:.2f}."
            ).replace("-", MINUS)
    return panels


def _range(values: Array) -> str:
    return f"{values.min():.3g} to {values.max():.3g}"


def _draw_constant(axes: Any, base: Run | None) -> None:
    """Draw the baseline's mean at the last step, if it is recorded."""
    last = None if base is None else base.first.samples.get("tau_final")
    if last is not None and len(last):
        axes.axhline(float(last.mean()), color=TOKENS["ink"], linewidth=0.9, label="constant")


def _curve(run: SeedRun) -> Curve | None:
    """Return the curve of the schedule, else that of what was logged, else None."""
    values = schedule(run)
    if values is not None:
        groups = by_group(run, values)
        names = [name for name in (*GROUP_ORDER, ALL) if name in groups]
        weight = np.stack([groups[name] for name in names], axis=1)
        held = [values.value[:, groups[name] > 0] for name in names]
        low, high = (
            np.stack([end(part, axis=1) for part in held], axis=1) for end in (np.min, np.max)
        )
        mean = values.value @ (weight / weight.sum(axis=0))
        return Curve(values.steps, names, mean, (low, high), exact=True)
    stored = run.samples
    if not {"tau_steps", "tau_groups"} <= set(stored) or not len(stored["tau_steps"]):
        return None
    mean = stored["tau_groups"]
    if not mean.shape[1] and "tau_mean" in stored:
        mean = stored["tau_mean"][:, None]
    none = mean[:, :0]
    logged = stored.get("tau_low", none), stored.get("tau_high", none)
    return Curve(
        stored["tau_steps"], _group_names(stored, mean.shape[1]), mean, logged, exact=False
    )


def _deciles(run: Run) -> dict[int, tuple[Array, Array]]:
    """Return (steps,), (means,) of each decile that has samples: by schedule, or else as logged."""
    values = schedule(run.first)
    if values is not None:
        where = deciles(values)
        held = {k: np.where(where == k, values.samples, 0) for k in np.unique(where).tolist()}
        return {k: (values.steps, values.value @ (part / part.sum())) for k, part in held.items()}
    logged = {k: mean_history(run, f"tau/decile/{k}") for k in range(len(DECILES))}
    return {k: line for k, line in logged.items() if len(line[0])}


def _with_base(numbers: Numbers) -> list[tuple[Run, Run | None]]:
    """Return runs whose knob is not constant, with their baseline if there is one."""
    bases = {run.name: base for run, base in numbers.compared()}
    return [(run, bases.get(run.name)) for run in numbers.runs if run.control != "constant"]


def _phase_note(run: Run) -> str:
    if not run.period or not run.first.steps:
        return ""
    steps = run.first.steps + (run.held if run.held > 1 else 0)
    phase = steps / run.period % 1
    where = (
        "the highest"
        if min(phase, 1 - phase) < 0.02
        else f"{phase:.2f} of a period past the highest"
    )
    return f"The oscillation ends at {where} point, which lifts all samples alike."


def _group_names(stored: Any, groups: int) -> list[str]:
    if len(stored.get("tau_group_names", ())) == groups:
        return [str(name) for name in stored["tau_group_names"]]
    named = [*GROUP_ORDER, *(f"group {g}" for g in range(4, groups + 1))]
    return named[:groups] if groups > 1 else [ALL]
