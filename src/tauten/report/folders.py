"""Run folders as the trainer writes them, read back and checked.

A run folder holds ``config.yaml``, ``results.json`` and ``embeddings.npz`` (of two views
``features.npz``), and where recorded ``history.jsonl``, ``samples.npz`` and ``test_images.npz``; or
one such folder per seed, named ``seed*``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tauten.outcome.metrics import INSTANCE
from tauten.report.comparable import comparable
from tauten.report.files import read_arrays, read_lines, read_results, read_yaml, required
from tauten.report.kept import embeddings, features, sample_values
from tauten.report.known import control_name, loss_of
from tauten.report.markup import printable
from tauten.report.runs import Run, SeedRun


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Return runs that are to be compared on the same test split.

    Runs of one name are the seeds of one recipe. Where different recipes share a name, or runs of
    one name share a seed, they are called by their folders instead.

    Args:
        paths: Run folders, or folders of ``seed*`` run folders.

    Raises:
        ValueError: No path, no run there, a file missing, unreadable or of the wrong content, a
            run given twice, pairs beside two views, different test pairs or classes, or results
            that are not :func:`comparable`.
    """
    if not paths:
        raise ValueError("no run folder given")
    seeds = [_load_seed(folder) for path in paths for folder in _folders(Path(path))]
    folders = [run.path.resolve() for run in seeds]
    for folder in folders:
        if folders.count(folder) > 1:
            raise ValueError(f"{folder} is given twice: give each run once")
    for run in seeds:
        _same_task(run, seeds[0])
    runs = _joined(seeds)
    reference = runs[0].first
    for joined in runs:
        for seed in joined.seeds:
            _same_test(seed, reference)
    return runs


def _same_task(run: SeedRun, other: SeedRun) -> None:
    if run.task != other.task:
        kinds = {"pairs": "pairs", "views": "two views"}
        raise ValueError(
            f"{run.path} is a run of {kinds[run.task]} and {other.path} of {kinds[other.task]}: "
            "they have no number in common. Write one report for each"
        )


def _same_test(run: SeedRun, other: SeedRun) -> None:
    comparable(run, other)
    if run.task == "views":
        kind, same = (
            "classes or groups",
            all(
                np.array_equal(run.test[name], other.test[name])
                for name in ("test_labels", "test_groups")
            ),
        )
    else:
        kind, same = "pairs", (run.captions, run.y_of_x) == (other.captions, other.y_of_x)
    if not same:
        raise ValueError(
            f"{run.path} and {other.path} were tested on different {kind} and cannot be compared: "
            "write one report for each"
        )


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder: give the folder of a finished run")
    if (path / "config.yaml").exists():
        return [path]
    folders = sorted(p for p in path.glob("seed*") if (p / "config.yaml").exists())
    if not folders:
        raise ValueError(
            f"{path} is not a run folder: it has neither config.yaml nor seed*/config.yaml"
        )
    return folders


def _joined(seeds: Sequence[SeedRun]) -> list[Run]:
    """Return runs of one or several seeds, in the order of their first folders."""
    alike: dict[str, list[SeedRun]] = {}
    for run in seeds:
        alike.setdefault(_describe(run)[0], []).append(run)
    clashing = [run for runs in alike.values() if _clash(runs) for run in runs]
    taken = [name for name, runs in alike.items() if not _clash(runs)]
    by_folder = _folder_names([_recipe_folder(run) for run in clashing], taken)
    named: dict[str, list[SeedRun]] = {}
    for run in seeds:
        name = by_folder.get(_recipe_folder(run)) if run in clashing else None
        named.setdefault(name or _describe(run)[0], []).append(run)
    return [_join(name, runs) for name, runs in named.items()]


def _clash(runs: Sequence[SeedRun]) -> bool:
    """Return whether runs of one name cannot be the seeds of one recipe."""
    return len({_describe(r) for r in runs}) > 1 or len({r.seed for r in runs}) < len(runs)


def _recipe_folder(run: SeedRun) -> Path:
    folder = run.path.resolve()
    return folder.parent if folder.name.startswith("seed") else folder


def _folder_names(folders: Sequence[Path], taken: Sequence[str]) -> dict[Path, str]:
    """Return the shortest ends of paths that are different from each other and from names."""
    different = set(folders)
    for count in range(1, max((len(folder.parts) for folder in different), default=0) + 1):
        names = {f: printable("/".join(f.parts[-count:])) for f in different}
        if len(set(names.values()) - set(taken)) == len(different):
            return names
    return {folder: printable(str(folder)) for folder in different}


def _join(name: str, seeds: Sequence[SeedRun]) -> Run:
    seeds = sorted(seeds, key=lambda run: run.seed)
    if _clash(seeds):
        folders = ", ".join(f"{run.path} (seed {run.seed})" for run in seeds)
        raise ValueError(
            f"the runs {folders} cannot be seeds of one recipe: put each recipe into a folder of "
            "its own"
        )
    _, family, control = _describe(seeds[0])
    return Run(name, family, control, tuple(seeds))


def _describe(run: SeedRun) -> tuple[str, str, str]:
    loss = loss_of(run.config)
    family = str(run.config.get("family", "loss")) if loss is None else loss.title
    name = str(run.config.get("name", printable(run.path.name)))
    return name, family, control_name(run.config)


def _load_seed(path: Path) -> SeedRun:
    config = _config(required(path, "config.yaml"))
    results = read_results(required(path, "results.json"))
    if not isinstance(results, dict) or not isinstance(results.get("test"), dict):
        raise ValueError(f'{path / "results.json"} has no "test" metrics: is the run finished?')
    _numbers(results["test"], path / "results.json", each=True)
    steps = {name: results.get(name) for name in ("best_step", "total_steps")}
    _numbers(steps, path / "results.json")
    if any(name.startswith(INSTANCE) for name in results["test"]):
        raise ValueError(
            f"{path} is a run of two views without classes, and a report is about classes: its "
            f"numbers are in {path / 'results.json'}, as 'tauten evaluate' prints them"
        )
    test = features(path) if results.get("task") == "views" else embeddings(path)
    samples = sample_values(path)
    pictures = path / "test_images.npz"
    images = read_arrays(pictures, ["images"])["images"] if pictures.exists() else None
    history = read_lines(path / "history.jsonl")
    for number, row in enumerate(history, start=1):
        if not isinstance(row.get("step"), (int, float)):
            raise ValueError(f"{path / 'history.jsonl'}, line {number}, has no step")
        _numbers(row, path / "history.jsonl")
    return SeedRun(path, config, results, history, samples, test, images)


def _config(path: Path) -> dict[str, Any]:
    """Return the configuration, with what is recorded beside it under names of its own."""
    record = read_yaml(path)
    config = record.get("config", record)
    if not isinstance(config, dict):
        raise ValueError(f"{path}: config is not a mapping but {config!r}")
    if config is not record:
        beside = {"data": "fingerprint", "versions": "versions"}
        config = config | {new: record[old] for old, new in beside.items() if old in record}
    seed = config.get("seed", 0)
    if not isinstance(seed, int):
        raise ValueError(f"{path}: seed is not a whole number but {seed!r}")
    return config


def _numbers(values: Mapping[str, Any], path: Path, each: bool = False) -> None:
    """Refuse what is no number; None stands for a number that was not recorded, unless `each` is.

    Raises:
        ValueError: with the file and the name of the number.
    """
    for name, value in values.items():
        if (value is None and each) or not isinstance(value, (int, float, type(None))):
            raise ValueError(f"{path}: {name} is not a number but {value!r}")
