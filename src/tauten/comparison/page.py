"""The comparison as one HTML file that needs nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from tauten.comparison import catalogue, tables
from tauten.comparison.cells import load_cell
from tauten.comparison.contrasts import Contrast
from tauten.comparison.queries import ALL
from tauten.comparison.summary import Summary
from tauten.evaluation import TIES
from tauten.report.plots import Panel
from tauten.report.settings import versions
from tauten.report.theme import TOKENS, figure, svg

PAGE = "comparison.html"


def write_page(summary: Summary) -> Path:
    """Write ``comparison.html`` into the comparison's folder."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("tauten.comparison"), PackageLoader("tauten.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("comparison.html.j2").render(
        title=f"Which control helps, where, and by how much: {_data(summary)}",
        summary=summary,
        tables=tables,
        methods=catalogue.METHODS,
        sentences=verdict(summary),
        forests=[panel for group in summary.groups if (panel := _forest(summary, group))],
        parts=_panel("What made the difference", summary.to_parts, ALL, "parts"),
        cost=_cost(summary),
        tuning=_tuning(summary),
        settings=_settings(summary),
        common=_common(summary),
        protocol=_protocol(summary),
        versions=versions(),
    )
    path = summary.grid.output / PAGE
    draft = path.with_name(f".{PAGE}.part")
    draft.write_text(page, encoding="utf-8")
    return draft.replace(path)


def verdict(summary: Summary) -> list[str]:
    """What can be said, one sentence for each control that differs, and one for the others."""
    said = []
    for variant in summary.variants:
        found = [c for c in summary.to_baseline if c.a == variant.name and c.verdict != "same"]
        if found:
            where = "; ".join(
                f"{_group(c.group)} {tables.points(c.value)} points "
                f"({tables.points(c.corrected_low)} to {tables.points(c.corrected_high)}, "
                f"p = {tables.p_value(c.corrected_p)})"
                for c in found
            )
            said.append(f"{variant.name} differs from {found[0].b}: {where}.")
    names = {c.a for c in summary.to_baseline}
    quiet = len(names) - len(said)
    if quiet:
        said.append(
            f"{quiet} of {len(names)} variants show no measurable difference to the baseline in "
            "any group, after correction for the number of comparisons."
        )
    overall = [c for c in summary.to_baseline if c.group == ALL]
    if overall:
        half = max(c.corrected_high - c.corrected_low for c in overall) / 2
        said.append(f"A difference of less than about {100 * half:.1f} points would not show here.")
    return said


def _data(summary: Summary) -> str:
    return next(iter(summary.trained.cells.values())).data


def _group(group: str) -> str:
    return "all queries" if group == ALL else group


def _forest(summary: Summary, group: str) -> Panel | None:
    title = f"{_group(group)[0].upper()}{_group(group)[1:]}"
    return _panel(title, summary.to_baseline, group, f"forest-{group}")


def _panel(title: str, found: Sequence[Contrast], group: str, name: str) -> Panel | None:
    """Differences with simultaneous intervals (thin) and their own (thick)."""
    shown = [c for c in found if c.group == group]
    if not shown:
        return None
    with figure((4.1, 0.8 + 0.2 * len(shown))) as drawing:
        axes = drawing.add_subplot()
        for row, c in enumerate(shown):
            color = TOKENS["muted"] if c.verdict == "same" else TOKENS["run2"]
            ends = [100 * c.corrected_low, 100 * c.corrected_high]
            axes.plot(ends, [row, row], color=color, linewidth=1)
            axes.plot([100 * c.low, 100 * c.high], [row, row], color=color, linewidth=3, alpha=0.5)
            face = TOKENS["paper"] if c.verdict == "same" else color
            axes.plot([100 * c.value], [row], "o", color=color, markersize=4, markerfacecolor=face)
        labels = [c.a if name.startswith("forest") else f"{tables.MINUS} {c.b}" for c in shown]
        axes.axvline(0, color=TOKENS["ink"], linewidth=0.9)
        axes.set_yticks(range(len(shown)), labels)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("difference, points")
        said = "; ".join(
            f"{c.a} minus {c.b} {tables.points(c.value)} "
            f"({tables.points(c.corrected_low)} to {tables.points(c.corrected_high)})"
            for c in shown
        )
        picture = svg(drawing, name, f"{title}: {said}")
    return Panel(title, picture)


def _cost(summary: Summary) -> Panel | None:
    """Quality over time of a step."""
    timed = [v for v in summary.variants if v.seconds_per_step is not None]
    if not timed:
        return None
    with figure((4.1, 3.2)) as drawing:
        axes = drawing.add_subplot()
        said = []
        for variant in timed:
            assert variant.seconds_per_step is not None
            time, value = 1000 * variant.seconds_per_step, 100 * variant.means[ALL].value
            color = TOKENS["run1" if variant.setting == "tuned" else "muted"]
            axes.plot([time], [value], "o", color=color, markersize=4)
            axes.annotate(variant.control, (time, value), fontsize=6.5, xytext=(3, 2),
                          textcoords="offset points")  # fmt: skip
            said.append(f"{variant.name} {time:.1f} ms, {value:.1f}")
        axes.set_xlabel("milliseconds per step")
        axes.set_ylabel(f"{summary.metric}, %")
        picture = svg(drawing, "cost", f"Quality over cost: {'; '.join(said)}")
    return Panel("Quality over cost", picture, "Blue: tuned. Grey: default.")


def _tuning(summary: Summary) -> list[list[str]]:
    """A row for each trial."""
    found = []
    for control, tried in summary.trained.trials.items():
        finished = [t.val for t in tried if t.finished and t.val is not None]
        for trial in tried:
            outcome = trial.error or ("" if trial.finished else f"stopped at {trial.share:.0%}")
            if trial.finished and trial.val == max(finished):
                outcome = "best"
            score = "–" if trial.val is None else tables.percent(trial.val)
            own = {k: v for k, v in trial.settings.items() if k not in _fixed(control)}
            found.append([control, trial.setting, score, outcome, _told(own)])
    return found


def _fixed(control: str) -> frozenset[str]:
    return frozenset(catalogue.METHODS[control].fixed)


def _settings(summary: Summary) -> list[list[str]]:
    found = []
    for variant in summary.variants:
        method = catalogue.METHODS[variant.control]
        found.append([variant.name, method.what, _told({**variant.settings, **method.fixed})])
    return found


def _told(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def _common(summary: Summary) -> list[tuple[str, str]]:
    """The training configuration of the baseline's first cell, without its control."""
    name = next(iter(summary.trained.results))
    tree = load_cell(summary.grid.output / name).config
    found = []
    for part in ("model", "optim", "data", "evaluation"):
        found += [(f"{part}.{key}", str(value)) for key, value in tree[part].items()]
    return found


def _protocol(summary: Summary) -> list[tuple[str, str]]:
    grid = summary.grid
    runner = {
        "frozen": "Heads on fixed features; the weights at the end of the training are tested.",
        "train": "End to end; the checkpoint with the best validation score is tested.",
    }
    found = [
        ("Training", runner[grid.runner]),
        (
            "Pairing",
            "A seed gives every control the same initial weights of the heads or towers and the "
            "same batches; query i is the same query for all.",
        ),
        (
            "Tuning",
            f"{grid.trials} settings for each control with settings of its own, the default among "
            f"them, drawn at random and scored on the validation split with seed {grid.seeds[0]}; "
            "on features those below the median of finished ones are stopped. Parts of a schedule "
            "take its settings. The test split is not used.",
        ),
        (
            "Intervals",
            f"{summary.bootstrap} replicates that draw seeds and, within head, mid and tail, "
            "queries, the same for all controls. Thick: of a comparison by itself. Thin: "
            "simultaneous, so that with 95 % probability all hold (single-step max-T).",
        ),
        (
            "Effect size",
            "d: the difference over the root mean square of both standard deviations over seeds.",
        ),
        (
            "Cost",
            "Time: median step while other cells trained beside it. Memory: the most that a step "
            "allocates at a time and what the loss keeps between steps, exact; not measured end to "
            "end.",
        ),
        ("Ties", TIES),
    ]
    if grid.recipe == "synthetic":
        made = dataclasses.asdict(grid.synthetic)
        told = ", ".join(f"{name} = {value}" for name, value in made.items())
        found.append(
            (
                "Synthetic pairs",
                f"{told}. Theory gives the higher temperature to: {grid.synthetic.expected()}.",
            )
        )
    return found
