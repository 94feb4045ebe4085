"""Plots over training: temperature, force, loss, gradient, validation, with the phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from tauten.report.numbers import ALL, Numbers
from tauten.report.plots import Panel, group_color, run_color
from tauten.report.runs import GROUP_ORDER, Array, Run
from tauten.report.theme import DASHES, DECILES, MARKERS, TOKENS, figure, legend_above, svg
from tauten.report.words import MINUS

PER_PERIOD = 4
"""Logged steps per period from which on means over periods are drawn."""

RANK = "tau/spearman"
"""Logged where the knob differs between samples."""

FORCES = ("attraction", "repulsion")
FORCE_NOTE = (
    "Mean per image of the group in the batch of each logged step: attraction to its own "
    "caption, repulsion from the other captions."
)


def over_time(numbers: Numbers) -> list[Panel]:
    """Per oscillating or shifted run: the knob over training, a band per count group."""
    panels = []
    for run, base in _with_base(numbers):
        stored = run.first.samples
        if not {"tau_steps", "tau_groups"} <= set(stored) or not len(stored["tau_steps"]):
            continue
        step, mean = stored["tau_steps"], stored["tau_groups"]
        if not mean.shape[1] and "tau_mean" in stored:
            mean = stored["tau_mean"][:, None]
        names = _group_names(stored, mean.shape[1])
        with figure() as drawing:
            axes = drawing.add_subplot()
            _mark_phase(axes, run.period, float(step[-1]))
            for g, name in enumerate(names):
                color = group_color(names, name)
                if g < stored.get("tau_low", mean[:, :0]).shape[1]:
                    axes.fill_between(
                        step,
                        stored["tau_low"][:, g],
                        stored["tau_high"][:, g],
                        color=color,
                        alpha=0.2,
                        linewidth=0,
                    )
                axes.plot(step, mean[:, g], color=color, linestyle=DASHES[g % 4], label=name)
            constant = _constant(base)
            if constant is not None:
                axes.axhline(constant, color=TOKENS["ink"], linewidth=0.9, label="constant")
            axes.set_xlabel("training step")
            axes.set_ylabel(f"{run.knob} {run.symbol}")
            if len(step) > 1:
                axes.set_xlim(step[0], step[-1])
            legend_above(axes)
            said = ", ".join(
                f"{name} {np.nanmin(mean[:, g]):.3g} to {np.nanmax(mean[:, g]):.3g}"
                for g, name in enumerate(names)
            )
            alt = f"{run.name}: mean {run.knob} over training by group: {said}"
            panels.append(
                Panel(
                    f"{run.name}: {run.knob} over time",
                    svg(drawing, f"time-{run.name}", alt),
                    f"Group means range over {said}. Band: smallest to largest in the group.",
                )
            )
    return panels


def against_count(numbers: Numbers) -> list[Panel]:
    """Per shifted run: the knob at the last step against the training count of the class."""
    panels = []
    for run, base in _with_base(numbers):
        stored = run.first.samples
        if not {"counts", "tau_final"} <= set(stored):
            continue
        if not 0 < len(stored["counts"]) == len(stored["tau_final"]):
            continue
        count, where = np.unique(stored["counts"], return_inverse=True)
        tau = np.bincount(where, stored["tau_final"]) / np.bincount(where)
        with figure() as drawing:
            axes = drawing.add_subplot()
            axes.plot(count, tau, "o", color=run_color(numbers, run), markersize=3.5, alpha=0.8)
            constant = _constant(base)
            if constant is not None:
                axes.axhline(constant, color=TOKENS["ink"], linewidth=0.9, label="constant")
                legend_above(axes)
            _log_counts(axes)
            axes.set_xlabel("training samples of the class (log)")
            axes.set_ylabel(f"{run.knob} {run.symbol}, last step")
            alt = (
                f"{run.name}: {run.knob} at the last step, {tau[0]:.3g} at count {count[0]:,} to "
                f"{tau[-1]:.3g} at count {count[-1]:,}"
            )
            picture = svg(drawing, f"count-{run.name}", alt)
        panels.append(Panel(f"{run.name}: {run.knob} against count", picture, _phase_note(run)))
    return panels


def by_decile(numbers: Numbers) -> list[Panel]:
    """Per run whose knob differs between samples: its mean in each decile of the class count."""
    panels = []
    for run in numbers.runs:
        ranked, rank = _mean_history(run, RANK)
        logged = [_mean_history(run, f"tau/decile/{k}") for k in range(len(DECILES))]
        shown = [k for k, (step, _) in enumerate(logged) if len(step)]
        if not shown or not len(rank):
            continue
        ends = {shown[0]: "rarest classes", shown[-1]: "most frequent classes"}
        with figure() as drawing:
            axes = drawing.add_subplot()
            _mark_phase(axes, run.period, float(ranked[-1]))
            for k in shown:
                color = TOKENS[DECILES[k]]
                axes.plot(*logged[k], color=color, linewidth=1.1, label=ends.get(k))
            axes.set_xlabel("training step")
            axes.set_ylabel(f"{run.knob} {run.symbol}")
            axes.set_xlim(0, 1.01 * ranked[-1])
            legend_above(axes)
            said = (
                f"Rank correlation of {run.knob} and class count at step {ranked[-1]:,}: "
                f"{rank[-1]:.2f}."
            ).replace("-", MINUS)
            ranges = ", ".join(
                f"{ends[k]} {logged[k][1].min():.3g} to {logged[k][1].max():.3g}" for k in ends
            )
            alt = f"{run.name}: mean {run.knob} over training by class count: {ranges}. {said}"
            picture = svg(drawing, f"decile-{run.name}", alt)
        note = (
            "Each line is a mean over samples of about a tenth of the training set, sorted by "
            f"class count. {said}"
        )
        panels.append(Panel(f"{run.name}: {run.knob} by class count", picture, note))
    return panels


def force_by_group(numbers: Numbers) -> list[Panel]:
    """Per run whose knob differs between samples: force per anchor in each count group."""
    panels = []
    for run in numbers.runs:
        logged = {
            (kind, name): _mean_history(run, f"force/{kind}/{name}")
            for kind in FORCES
            for name in GROUP_ORDER
        }
        names = [name for name in GROUP_ORDER if len(logged[FORCES[0], name][0])]
        if not names or not len(_mean_history(run, RANK)[0]):
            continue
        last = max(float(logged[FORCES[0], name][0][-1]) for name in names)
        with figure((4.1, 3.9)) as drawing:
            said = []
            both = drawing.subplots(len(FORCES), sharex=True)
            for axes, kind in zip(both, FORCES, strict=True):
                _mark_phase(axes, run.period, last)
                for name in names:
                    step, value = logged[kind, name]
                    g = GROUP_ORDER.index(name)
                    color = group_color(GROUP_ORDER, name)
                    axes.plot(step, value, color=color, linestyle=DASHES[g], label=name)
                    said.append(f"{kind} of {name} from {value[0]:.3g} to {value[-1]:.3g}")
                axes.set_xlim(0, 1.01 * last)
                axes.set_ylim(bottom=0)
                axes.set_ylabel(kind)
            both[-1].set_xlabel("training step")
            legend_above(both[0])
            alt = f"{run.name}: mean force per anchor over training by group: {', '.join(said)}"
            picture = svg(drawing, f"force-{run.name}", alt)
        title = f"{run.name}: force on {', '.join(names)}"
        panels.append(Panel(title, picture, FORCE_NOTE))
    return panels


def training(numbers: Numbers, key: str, title: str, label: str, scale: float = 1) -> list[Panel]:
    """Per family: a logged quantity of every run, raw and averaged over whole periods.

    Args:
        numbers: The runs.
        key: Name in history.jsonl.
        title: Heading.
        label: Of the vertical axis.
        scale: Factor of the values.
    """
    panels = []
    for family in numbers.families:
        runs = numbers.of_family(family)
        period = next((run.period for run in runs if run.period), None)
        with figure() as drawing:
            axes = drawing.add_subplot()
            last, said = 0.0, []
            for k, run in enumerate(runs):
                step, value = _mean_history(run, key)
                value = scale * value
                if not len(step):
                    continue
                last = max(last, float(step[-1]))
                color = run_color(numbers, run)
                if period and len(step) * period >= PER_PERIOD * step[-1]:
                    axes.plot(step, value, color=color, linewidth=0.8, alpha=0.45)
                    centre, average = _per_period(step, value, period)
                    axes.plot(
                        centre,
                        average,
                        color=color,
                        marker=MARKERS[k % 6],
                        linestyle=DASHES[k % 4],
                        markersize=4,
                        label=numbers.label(run, within_family=True),
                    )
                else:
                    marker = MARKERS[k % 6] if len(step) < 40 else None
                    axes.plot(
                        step,
                        value,
                        color=color,
                        marker=marker,
                        markersize=3.5,
                        linestyle=DASHES[k % 4],
                        label=numbers.label(run, within_family=True),
                    )
                said.append(f"{run.name} from {value[0]:.3g} to {value[-1]:.3g}")
            if not said:
                continue
            _mark_phase(axes, period, last)
            axes.set_xlabel("training step")
            axes.set_ylabel(label)
            axes.set_xlim(0, 1.01 * last)
            legend_above(axes)
            name = f"{key.replace('/', '-').replace('@', '')}-{family}"
            picture = svg(drawing, name, f"{family}, {title}: {'; '.join(said)}")
        panels.append(Panel(f"{family}: {title}", picture))
    return panels


def _with_base(numbers: Numbers) -> list[tuple[Run, Run | None]]:
    """Runs whose knob is not constant, with their baseline if there is one."""
    bases = {run.name: base for run, base in numbers.compared()}
    return [(run, bases.get(run.name)) for run in numbers.runs if run.control != "constant"]


def _constant(run: Run | None) -> float | None:
    final = None if run is None else run.first.samples.get("tau_final")
    return None if final is None or not len(final) else float(final.mean())


def _phase_note(run: Run) -> str:
    if not run.period or not run.first.steps:
        return ""
    phase = run.first.steps / run.period % 1
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


def _mean_history(run: Run, key: str) -> tuple[Array, Array]:
    """(steps,), (values,): the mean over seeds at the steps that all seeds logged."""
    logs = [
        {int(row["step"]): float(row[key]) for row in seed.history if row.get(key) is not None}
        for seed in run.seeds
    ]
    shared = sorted(set.intersection(*(set(log) for log in logs)))
    return np.array(shared), np.array([np.mean([log[step] for log in logs]) for step in shared])


def _per_period(step: Array, value: Array, period: float) -> tuple[Array, Array]:
    """Mean over each whole period, placed at its centre."""
    index = np.floor((step - 1e-9) / period).astype(int).clip(0)
    whole = [k for k in range(index.max() + 1) if (k + 1) * period <= step[-1] * 1.02]
    kept = [k for k in whole if (index == k).any()]
    return (np.array(kept) + 0.5) * period, np.array([value[index == k].mean() for k in kept])


def _mark_phase(axes: Any, period: float | None, last: float) -> None:
    """Lines at full periods; the half of each period below the mean is shaded."""
    if not period or last <= 0:
        return
    for k in range(int(np.ceil(last / period))):
        axes.axvspan(
            (k + 0.25) * period,
            min((k + 0.75) * period, last),
            color=TOKENS["muted"],
            alpha=0.13,
            linewidth=0,
            zorder=0,
        )
    for k in range(1, int(last / period + 1e-6) + 1):
        axes.axvline(k * period, color=TOKENS["muted"], linewidth=0.8, linestyle=(0, (1, 2)))


def _log_counts(axes: Any) -> None:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def panels_over_training(numbers: Numbers, primary: str) -> Sequence[Panel]:
    """Loss, gradient norm and validation, per family."""
    found = training(numbers, "loss", "training loss", "loss")
    found += training(numbers, "grad_norm", "gradient norm", "norm")
    for direction in ("x2y", "y2x"):
        name = "image to text" if direction == "x2y" else "text to image"
        title = f"validation {primary}, {name}"
        found += training(numbers, f"val/{direction}/{primary}", title, f"{primary}, %", 100)
    return found
