"""Numbers from trained cells: variants, their means, differences and cost."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tauten.comparison.cells import load_queries
from tauten.comparison.contrasts import Contrast, Seeds, contrasts, estimates
from tauten.comparison.grid import DEFAULT, TUNED, Grid
from tauten.comparison.train import Trained
from tauten.evaluation import Estimate
from tauten.files import replace_text
from tauten.outcome import ALL, GROUPS, PAIRS
from tauten.outcome.metrics import OF_CLASSES

CELLS, CONTRASTS = "cells.csv", "differences.csv"
COLUMNS = ("data", "control", "force", "seed", "group", "metric", "value", "settings", "setting")


@dataclass(frozen=True)
class Variant:
    """A control with one of its settings.

    Attributes:
        control: name of the control.
        setting: "default" or "tuned".
        settings: options of the control by name.
        seeds: seeds that finished.
        means: mean and 95 % interval in each group.
        seconds_per_step: median over seeds; None where no seed finished.
        memory_mib: median over seeds; None where it was not measured.
    """

    control: str
    setting: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    means: dict[str, Estimate]
    seconds_per_step: float | None
    memory_mib: float | None

    @property
    def name(self) -> str:
        """Name as shown to readers."""
        return f"{self.control} ({self.setting})"


@dataclass(frozen=True)
class Level:
    """Another metric beside the one that is compared, corrected for its own comparisons.

    Attributes:
        metric: its name.
        means: mean and 95 % interval by (variant, group).
        to_baseline: differences to the baseline with the same kind of setting.
    """

    metric: str
    means: dict[tuple[str, str], Estimate]
    to_baseline: list[Contrast]

    def difference(self, variant: str, group: str) -> Contrast | None:
        """Return the difference of a variant to the baseline in a group, or None."""
        return next((c for c in self.to_baseline if (c.a, c.group) == (variant, group)), None)


@dataclass(frozen=True)
class Summary:
    """Everything that tables and the page show.

    Attributes:
        grid: what was asked for.
        trained: what was found.
        metric: compared, a fraction.
        bootstrap: replicates.
        variants: with at least one finished seed, the baseline first.
        to_baseline: differences to the baseline with the same kind of setting.
        to_parts: differences of a schedule to what takes it apart, with the same settings.
        groups: with queries, "all" first.
        beside: of classes beside single pairs, or the other way round; None without classes.
    """

    grid: Grid
    trained: Trained
    metric: str
    bootstrap: int
    variants: list[Variant]
    to_baseline: list[Contrast]
    to_parts: list[Contrast]
    groups: list[str]
    beside: Level | None = None


def summarise(grid: Grid, trained: Trained, metric: str, bootstrap: int = 2000) -> Summary:
    """Compute means, differences to the baseline and to parts, cost.

    Raises:
        ValueError: an unknown metric, no finished cell of the baseline, or cells that were tested
            on different queries.
    """
    queries: dict[str, Seeds] = {}
    for (control, setting), cells in trained.variants.items():
        runs = {
            seed: load_queries(grid.output / name)
            for seed, name in cells.items()
            if name in trained.results
        }
        if runs:
            queries[f"{control} ({setting})"] = runs
    if f"{grid.baseline} ({DEFAULT})" not in queries:
        first = f", the first: {trained.failures[0].error}" if trained.failures else ""
        raise ValueError(
            f"no cell of the baseline {grid.baseline} has finished, so there is nothing to compare "
            f"with: {len(trained.failures)} trainings failed{first}; see "
            f"{grid.output / 'failed.json'}"
        )
    base_pairs, part_pairs = _pairs(grid, list(queries))
    compared = contrasts(queries, [*base_pairs, *part_pairs], metric, bootstrap)
    means = estimates(queries, metric, bootstrap)
    variants = [
        _variant(trained, control, setting, queries[f"{control} ({setting})"], means)
        for control, setting in trained.variants
        if f"{control} ({setting})" in queries
    ]
    return Summary(
        grid=grid,
        trained=trained,
        metric=metric,
        bootstrap=bootstrap,
        variants=variants,
        to_baseline=[c for c in compared if (c.a, c.b) in base_pairs],
        to_parts=[c for c in compared if (c.a, c.b) in part_pairs],
        groups=[g for g in (ALL, *GROUPS) if g in {group for _, group in means}],
        beside=_beside(queries, base_pairs, metric, bootstrap),
    )


def _beside(
    queries: Mapping[str, Seeds], pairs: Sequence[tuple[str, str]], metric: str, bootstrap: int
) -> Level | None:
    """Return the retrieval of classes beside that of pairs, or of pairs beside that of classes."""
    other = PAIRS.main if metric in OF_CLASSES else OF_CLASSES[0]
    known = [run for runs in queries.values() for run in runs.values()]
    if not all({other, OF_CLASSES[0]} <= {*run.known.names} for run in known):
        return None
    if not all(len(run.members(ALL, OF_CLASSES[0])) for run in known):
        return None
    compared = contrasts(queries, pairs, other, bootstrap)
    return Level(other, estimates(queries, other, bootstrap), compared)


def _pairs(grid: Grid, names: Sequence[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    base, parts = [], []
    for setting in (DEFAULT, TUNED):
        baseline = f"{grid.baseline} ({setting})"
        if baseline not in names:
            baseline = f"{grid.baseline} ({DEFAULT})"
        for control in (c for c in grid.controls if f"{c} ({setting})" in names):
            name, whole = f"{control} ({setting})", grid.catalogue[control].parts_of
            if control != grid.baseline:
                base.append((name, baseline))
            if whole is not None and f"{whole} ({setting})" in names:
                pair = f"{whole} ({setting})", name
                if grid.baseline not in (control, whole):
                    parts.append(pair)
    return base, parts


def _variant(
    trained: Trained,
    control: str,
    setting: str,
    runs: Seeds,
    means: dict[tuple[str, str], Estimate],
) -> Variant:
    name = f"{control} ({setting})"
    results = [trained.results[trained.variants[control, setting][seed]] for seed in runs]
    memory = [r.memory_mib for r in results if r.memory_mib is not None]
    return Variant(
        control=control,
        setting=setting,
        settings=trained.chosen[control, setting],
        seeds=tuple(sorted(runs)),
        means={group: mean for (variant, group), mean in means.items() if variant == name},
        seconds_per_step=statistics.median(r.seconds_per_step for r in results),
        memory_mib=statistics.median(memory) if memory else None,
    )


def write_csv(summary: Summary) -> None:
    """Write ``cells.csv``, a row for each cell, group and metric, and ``differences.csv``."""
    with _table(summary.grid.output / CELLS) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, result in summary.trained.results.items():
            cell = summary.trained.cells[name]
            settings = json.dumps(dict(cell.settings), sort_keys=True)
            for group, metrics in result.metrics.items():
                for metric, value in metrics.items():
                    place = (cell.data, cell.control, cell.force, cell.seed, group, metric)
                    writer.writerow((*place, repr(value), settings, cell.setting))
    with _table(summary.grid.output / CONTRASTS) as file:
        names = [*Contrast.__dataclass_fields__, "verdict"]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["metric", *names])
        rows = [(summary.metric, one) for one in (*summary.to_baseline, *summary.to_parts)]
        if summary.beside is not None:
            rows += [(summary.beside.metric, one) for one in summary.beside.to_baseline]
        for metric, contrast in rows:
            writer.writerow([metric, *(getattr(contrast, name) for name in names)])


@contextlib.contextmanager
def _table(path: Path) -> Iterator[Any]:
    """Write a table that takes the place of an earlier one when it is whole."""
    text = io.StringIO(newline="")
    yield text
    replace_text(path, text.getvalue())
