"""The comparison as one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tauten.comparison import protocol, tables
from tauten.comparison.contrasts import Contrast
from tauten.comparison.end_to_end import RUN
from tauten.comparison.grid import DEFAULT
from tauten.comparison.summary import Summary
from tauten.files import replace_text
from tauten.outcome import ALL
from tauten.outcome.metrics import OF_CLASSES
from tauten.report.markup import environment, save_page
from tauten.report.place import ROWS
from tauten.report.settings import versions
from tauten.report.theme import DASHES, TOKENS, Panel, plotted

PAGE = "comparison.html"
MARKED = ("better", "worse")


def write_page(summary: Summary) -> Path:
    """Write ``comparison.html`` into the comparison's folder."""
    templates = environment("tauten.comparison", "tauten.report")
    page = templates.get_template("comparison.html.j2").render(
        title=f"Which control helps, where, and by how much: {_data(summary)}",
        summary=summary,
        tables=tables,
        beside=tables.beside(summary),
        sentences=verdict(summary),
        forests=[panel for group in summary.groups if (panel := _forest(summary, group))],
        parts=_panel("What made the difference", summary.to_parts, ALL, "parts"),
        trade_offs=_trade_offs(summary),
        cost=_cost(summary),
        numbered=numbered(summary),
        anchors=anchors(summary),
        trainings=trainings(summary),
        tuning=_tuning(summary),
        settings=protocol.settings(summary),
        common=protocol.common(summary),
        protocol=protocol.protocol(summary),
        versions=versions(),
    )
    names = [variant.name for variant in summary.variants]
    rows = dict(zip(names, anchors(summary), strict=True))
    replace_text(summary.grid.output / ROWS, json.dumps(rows, indent=1))
    return save_page(summary.grid.output / PAGE, page)


def verdict(summary: Summary) -> list[str]:
    """Return a sentence for each control that differs from the baseline, and one for the others."""
    said = []
    for variant in summary.variants:
        contrasts = [c for c in summary.to_baseline if c.a == variant.name and c.verdict in MARKED]
        if contrasts:
            where = "; ".join(
                f"{_group(c.group)} {tables.points(c.value)} points "
                f"({tables.points(c.corrected_low)} to {tables.points(c.corrected_high)}, "
                f"p = {tables.p_value(c.corrected_p)})"
                for c in contrasts
            )
            said.append(f"{variant.name} differs from {contrasts[0].b}: {where}.")
    names = {c.a for c in summary.to_baseline}
    quiet = len(names) - len(said)
    alone = [c for c in summary.to_baseline if c.verdict == "one seed"]
    if alone and len(alone) == len(summary.to_baseline):
        said.append(
            "There is one seed, so nothing can be said of other trainings: intervals are over "
            "queries alone, and no difference is marked."
        )
    elif quiet:
        said.append(
            f"{quiet} of {len(names)} variants show no measurable difference to the baseline in "
            "any group, after correction for the number of comparisons."
        )
    overall = [c for c in summary.to_baseline if c.group == ALL]
    if overall:
        half = max(c.corrected_high - c.corrected_low for c in overall) / 2
        said.append(f"A difference of less than about {100 * half:.1f} points would not show here.")
    level = summary.beside
    marked = [c for c in level.to_baseline if c.verdict in MARKED] if level is not None else []
    if level is not None and marked:
        shown = (f"{c.a}, {_group(c.group)} {tables.points(c.value)} points" for c in marked)
        said.append(f"By {level.metric} there are differences, corrected too: {'; '.join(shown)}.")
    elif level is not None and len(alone) < len(summary.to_baseline):
        said.append(f"By {level.metric} there is no measurable difference.")
    return said


def anchors(summary: Summary) -> list[str]:
    """Return an id for each row of the table: the control's name, of its first row."""
    controls = [variant.control for variant in summary.variants]
    return [
        name if name not in controls[:row] else f"{name}-{summary.variants[row].setting}"
        for row, name in enumerate(controls)
    ]


def trainings(summary: Summary) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each variant's seeds with a link from the page to the folder of their run or cell."""
    rows = []
    for variant in summary.variants:
        cells = summary.trained.variants[variant.control, variant.setting]
        inside = f"/{RUN}" if summary.grid.runner == "train" else ""
        links = [(f"seed {seed}", f"{cells[seed]}{inside}/") for seed in variant.seeds]
        rows.append((variant.name, links))
    return rows


def _data(summary: Summary) -> str:
    return next(iter(summary.trained.cells.values())).data


def _group(group: str) -> str:
    return "all queries" if group == ALL else group


def _forest(summary: Summary, group: str) -> Panel | None:
    title = f"{_group(group)[0].upper()}{_group(group)[1:]}"
    return _panel(title, summary.to_baseline, group, f"forest-{group}")


def _panel(title: str, contrasts: Sequence[Contrast], group: str, name: str) -> Panel | None:
    """Return differences with simultaneous intervals (thin) and their own (thick)."""
    shown = sorted((c for c in contrasts if c.group == group), key=lambda c: -c.value)
    if not shown:
        return None
    panels: list[Panel] = []
    with plotted(panels, title, name, (4.1, 0.8 + 0.2 * len(shown))) as plot:
        axes = plot.axes
        for row, c in enumerate(shown):
            color = TOKENS["muted"] if c.verdict not in MARKED else TOKENS["run2"]
            ends = [100 * c.corrected_low, 100 * c.corrected_high]
            axes.plot(ends, [row, row], color=color, linewidth=1)
            axes.plot([100 * c.low, 100 * c.high], [row, row], color=color, linewidth=3, alpha=0.5)
            face = TOKENS["paper"] if c.verdict not in MARKED else color
            axes.plot([100 * c.value], [row], "o", color=color, markersize=4, markerfacecolor=face)
            plot.said.append(
                f"{c.a} minus {c.b} {tables.points(c.value)} "
                f"({tables.points(c.corrected_low)} to {tables.points(c.corrected_high)})"
            )
        labels = [c.a if name.startswith("forest") else f"{tables.MINUS} {c.b}" for c in shown]
        axes.axvline(0, color=TOKENS["ink"], linewidth=0.9)
        axes.set_yticks(range(len(shown)), labels)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("difference, points")
    return panels[0]


def _cost(summary: Summary) -> Panel | None:
    """Return quality over time of a step."""
    points = {
        v.name: (1000 * v.seconds_per_step, 100 * v.means[ALL].value)
        for v in summary.variants
        if v.seconds_per_step is not None
    }
    labels = "milliseconds per step", f"{summary.metric}, %"
    return _scatter(summary, "Quality over cost", "cost", points, labels) if points else None


def _trade_offs(summary: Summary) -> list[Panel]:
    """Return the retrieval of classes over that of pairs, by group, a point for each variant."""
    level, panels = summary.beside, []
    for group in summary.groups if level is not None else ():
        assert level is not None
        both = [
            (v.name, 100 * v.means[group].value, 100 * level.means[v.name, group].value)
            for v in summary.variants
            if (v.name, group) in level.means and group in v.means
        ]
        turned = level.metric not in OF_CLASSES
        points = {name: (y, x) if turned else (x, y) for name, x, y in both}
        names = (level.metric, summary.metric) if turned else (summary.metric, level.metric)
        title, labels = _group(group), (f"{names[0]}, %", f"{names[1]}, %")
        panels.append(_scatter(summary, title, f"trade-off-{group}", points, labels))
    return panels


def _scatter(
    summary: Summary,
    title: str,
    name: str,
    points: Mapping[str, tuple[float, float]],
    labels: tuple[str, str],
) -> Panel:
    """Plot a point for each variant, numbered as :func:`numbered` says; lines cross the first."""
    panels: list[Panel] = []
    heading = f"{title[0].upper()}{title[1:]}"
    alt = f"{title}, {labels[1]} over {labels[0]}"
    with plotted(panels, heading, name, (4.1, 3.2), alt=alt) as plot:
        axes = plot.axes
        for number, variant in reversed([*enumerate(summary.variants, start=1)]):
            if variant.name not in points:
                continue
            x, y = points[variant.name]
            color = TOKENS["run2" if number == 1 else "run1"]
            face = color if variant.setting != DEFAULT or number == 1 else TOKENS["paper"]
            axes.plot([x], [y], "o", color=color, markersize=4.5, markerfacecolor=face)
            shift = (4, 2) if number % 2 else (-9, 2)
            axes.annotate(str(number), (x, y), fontsize=8, xytext=shift, textcoords="offset points")
            plot.said.append(f"{variant.name} {x:.1f}, {y:.1f}")
            if number == 1:
                look = {"color": color, "linewidth": 0.8, "linestyle": DASHES[2]}
                axes.axvline(x, **look)
                axes.axhline(y, **look)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.margins(0.12)
    return panels[0]


def numbered(summary: Summary) -> str:
    """Return which number in a plot is which variant, with its temperature or margin."""
    names = [f"{k} {v.name}{_tau(v.settings)}" for k, v in enumerate(summary.variants, start=1)]
    return f"Orange: the baseline. Hollow: default settings. {'; '.join(names)}."


def _tau(settings: Mapping[str, Any]) -> str:
    """Return the temperature or margin among a control's settings, or ""."""
    if "control.value" in settings:
        return f", {settings['control.value']:.3g}"
    for ends in (("low", "high"), ("shift_low", "shift_high")):
        values = [settings[key] for name in ends if (key := f"control.{name}") in settings]
        if len(values) == 2:
            return f", {values[0]:.3g} to {values[1]:.3g}"
    return ""


def _tuning(summary: Summary) -> list[list[str]]:
    """Return a row for each trial."""
    rows = []
    for control, tried in summary.trained.trials.items():
        finished = [t.val for t in tried if t.finished and t.val is not None]
        for trial in tried:
            outcome = trial.error or ("" if trial.finished else f"stopped at {trial.share:.0%}")
            if trial.finished and trial.val == max(finished):
                outcome = "best"
            score = "–" if trial.val is None else tables.percent(trial.val)
            fixed = summary.grid.catalogue[control].fixed
            tuned = {name: value for name, value in trial.settings.items() if name not in fixed}
            rows.append([control, trial.setting, score, outcome, protocol.one_line(tuned)])
    return rows
