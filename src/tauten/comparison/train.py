"""The training of a grid: its controls are tuned, then trained by default and best settings."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tauten.comparison.cell_run import run_cell
from tauten.comparison.cells import FEATURES, RESULT, Cell, Result
from tauten.comparison.features import Features, load, of_pairs, save
from tauten.comparison.grid import DEFAULT, TUNED, Grid
from tauten.comparison.methods import Method, configure, trials
from tauten.comparison.pool import Failure, Task, run_tasks
from tauten.comparison.synthetic import synthetic
from tauten.comparison.tuning import Trial, best, tune
from tauten.files import Lock, replace_text
from tauten.outcome.metrics import OF_CLASSES
from tauten.training import to_dict
from tauten.training.stores.classes import with_classes
from tauten.training.stores.splits import load_split, load_splits

FAILED, TUNING = "failed.json", "tuning.json"


@dataclass
class Trained:
    """Results of a grid.

    Attributes:
        cells: each planned cell by the name of its place, finished or not.
        results: results of the finished ones, by the same names.
        variants: (control, setting) to the names of its cells by seed. Where tuning chose the
            default setting, "tuned" has the default's cells.
        trials: trials of each control that was tuned, the default first.
        chosen: settings of each (control, setting).
        failures: failed cells and failed tuning.
    """

    cells: dict[str, Cell] = field(default_factory=dict)
    results: dict[str, Result] = field(default_factory=dict)
    variants: dict[tuple[str, str], dict[int, str]] = field(default_factory=dict)
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    chosen: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def train_grid(grid: Grid, metric: str = "") -> Trained:
    """Tune each control on the validation split, then train its default and best settings.

    Started again it goes on: finished cells are read, failed ones tried again. More controls and
    seeds may be added. ``failed.json`` lists what failed; the rest goes on without it.

    Args:
        grid: which trainings.
        metric: that will be compared; one of classes needs pairs that have some.

    Raises:
        ValueError: a grid that cannot be run, or a folder with cells of another one, or in which
            another process works.
    """
    grid.check()
    with Lock(grid.output, "a comparison"):
        return _train_grid(grid, metric)


def _train_grid(grid: Grid, metric: str) -> Trained:
    fingerprint = _prepare(grid) if grid.runner == "frozen" else ""
    methods, known = grid.methods(), grid.catalogue
    tuned = {m.parts_of or m.name for m in methods}
    sources = [m for m in known.values() if m.name in tuned]
    planned = {m.name: _trial_cells(grid, m, fingerprint) for m in sources}
    trained = Trained()
    for method in methods:
        settings = dict(known[method.parts_of or method.name].default)
        _plan(grid, trained, method, DEFAULT, settings, fingerprint)
    _check_data(grid, trained, metric)
    grid.output.mkdir(parents=True, exist_ok=True)
    finals = len(methods) * len(grid.seeds)
    total = sum(map(len, planned.values())) + finals * (1 if grid.trials == 1 else 2)
    bar = tqdm(total=total, desc="trainings", unit="training", disable=not grid.progress)
    with bar:
        tasks = [
            Task(f"tuning {name}", tune, (cells, grid.output), len(cells))
            for name, cells in planned.items()
        ]
        outcome = run_tasks([*tasks, *_tasks(grid, trained)], grid.processes, bar)
        _collect(trained, outcome)
        for method in methods:
            _plan_tuned(grid, trained, method, fingerprint, bar)
        _collect(trained, run_tasks(_tasks(grid, trained), grid.processes, bar))
    _write(grid.output, trained)
    return trained


def _check_data(grid: Grid, trained: Trained, metric: str) -> None:
    """Refuse data that are missing, cannot be read or lack classes, before any training.

    Raises:
        ValueError: with the reason.
    """
    finished = all((grid.output / name / RESULT).exists() for name in trained.cells)
    if grid.runner == "train" and not finished:
        base = grid.base()
        split = load_split(base.data, "test", grid.progress)
        unknown = base.task == "pairs" and not base.data.clusters and split.labels is None
        if metric in OF_CLASSES and unknown:
            raise ValueError(
                f"metric={metric} needs the class of each pair, and the test split has none: name "
                "its column with data.label, or make clusters of the captions with data.clusters"
            )


def _prepare(grid: Grid) -> str:
    """Make sure of the features in the output folder; return their fingerprint."""
    path = grid.output / FEATURES
    if path.exists():
        try:
            stored = load(path)
        except ValueError as error:
            raise ValueError(f"{error}. Remove it, and it is made again") from error
        if grid.recipe == "synthetic" or grid.features is not None:
            same = _features(grid).fingerprint == stored.fingerprint
        else:
            same = stored.name == grid.base().data.source
        if not same:
            raise ValueError(f"{path} holds other features ({stored.name}): choose another output")
        return stored.fingerprint
    made = _features(grid)
    save(made, path)
    return made.fingerprint


def _features(grid: Grid) -> Features:
    if grid.features is not None:
        return load(grid.features)
    if grid.recipe == "synthetic":
        return synthetic(grid.synthetic)
    data = grid.base().data
    splits, _ = with_classes(load_splits(data, progress=grid.progress), data, grid.progress)
    return of_pairs(data.source, splits, grid.progress)


def _cell(
    grid: Grid,
    method: Method,
    setting: str,
    settings: Mapping[str, Any],
    seed: int,
    fingerprint: str,
    test: bool = True,
) -> Cell:
    config = configure(grid.base(), method, settings)
    config.seed, config.name, config.output = seed, f"{method.name} {setting}", Path("run")
    named = grid.features.stem if grid.features is not None else config.data.source
    return Cell(
        control=method.name,
        setting=setting,
        settings={**settings, **method.fixed},
        config=to_dict(config),
        data=named,
        fingerprint=fingerprint,
        runner=grid.runner,
        hidden=grid.hidden if grid.runner == "frozen" else 0,
        threads=grid.threads or max(1, (os.cpu_count() or 1) // grid.processes),
        test=test,
    )


def _trial_cells(grid: Grid, method: Method, fingerprint: str) -> list[Cell]:
    """Return the trials of a control, all with the first seed; none if only the default exists."""
    if grid.trials == 1:
        return []
    drawn = trials(method, grid.base(), grid.trials, seed=0)
    return [
        _cell(grid, method, f"trial-{k}", settings, grid.seeds[0], fingerprint, test=False)
        for k, settings in enumerate(drawn)
    ]


def _plan(
    grid: Grid,
    trained: Trained,
    method: Method,
    setting: str,
    settings: Mapping[str, Any],
    fingerprint: str,
) -> None:
    variant = method.name, setting
    trained.chosen[variant] = dict(settings)
    trained.variants[variant] = {}
    for seed in grid.seeds:
        cell = _cell(grid, method, setting, settings, seed, fingerprint)
        cell.check(grid.output)
        trained.cells[str(cell.place)] = cell
        trained.variants[variant][seed] = str(cell.place)


def _plan_tuned(
    grid: Grid, trained: Trained, method: Method, fingerprint: str, bar: tqdm[Any]
) -> None:
    source = method.parts_of or method.name
    chosen = best(trained.trials.get(source, []))
    if chosen is None:
        bar.update(0 if grid.trials == 1 else len(grid.seeds))
        return
    default = trained.chosen[method.name, DEFAULT]
    if chosen.settings == {**default, **grid.catalogue[source].fixed}:
        trained.chosen[method.name, TUNED] = copy.copy(default)
        trained.variants[method.name, TUNED] = dict(trained.variants[method.name, DEFAULT])
        bar.update(len(grid.seeds))
        return
    fixed = grid.catalogue[source].fixed
    settings = {name: value for name, value in chosen.settings.items() if name not in fixed}
    try:
        _plan(grid, trained, method, TUNED, settings, fingerprint)
    except ValueError as error:
        trained.failures.append(Failure(f"{method.name} {TUNED}", str(error)))
        bar.update(len(grid.seeds))


def _tasks(grid: Grid, trained: Trained) -> list[Task]:
    """Return the planned cells without a result."""
    failed = {failure.task for failure in trained.failures}
    return [
        Task(name, run_cell, (cell, grid.output))
        for name, cell in trained.cells.items()
        if name not in trained.results and name not in failed
    ]


def _collect(trained: Trained, outcome: Mapping[str, Any]) -> None:
    for name, value in outcome.items():
        if isinstance(value, Failure):
            trained.failures.append(value)
        elif name.startswith("tuning "):
            control = name.removeprefix("tuning ")
            trained.trials[control] = value
            trained.failures += [
                Failure(f"tuning/{control}/{trial.setting}", trial.error)
                for trial in value
                if trial.error
            ]
        else:
            trained.results[name] = value


def _write(output: Path, trained: Trained) -> None:
    failures = [dataclasses.asdict(failure) for failure in trained.failures]
    if failures:
        replace_text(output / FAILED, json.dumps(failures, indent=1))
    else:
        (output / FAILED).unlink(missing_ok=True)
    tuning = {
        name: [dataclasses.asdict(trial) for trial in tried]
        for name, tried in trained.trials.items()
    }
    replace_text(output / TUNING, json.dumps(tuning, indent=1))
