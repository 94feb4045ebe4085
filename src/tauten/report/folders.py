"""Run folders as the trainer writes them, read back and checked.

A run folder holds ``config.yaml``, ``results.json`` and ``embeddings.npz`` (of two views
``features.npz``), and where recorded ``history.jsonl``, ``samples.npz`` and ``test_images.npz``; or
one such folder per seed, named ``seed*``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tauten.report.comparable import comparable
from tauten.report.runs import RIGHT, Array, Run, SeedRun

FAMILIES = {
    "infonce": "InfoNCE",
    "maxmargin": "MaxMargin",
    "sms": "SMS",
    "dcl": "DCL",
    "siglip": "SigLIP",
    "sogclr": "SogCLR",
    "isogclr": "iSogCLR",
    "fastclip": "FastCLIP",
    "nuclr": "NUCLR",
}
CONTROLS = {
    "matched": "constant",
    "learnable": "one learned τ",
    "mmts": "MM-TS",
    "mm-ts": "MM-TS",
    "individual": "individual τ",
    "tempnet": "TempNet",
    "tau_uncertainty": "TaU",
    "dystress": "DySTreSS",
    "temo": "TeMo",
    "macl": "MACL",
}


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """Read runs that are to be compared on the same test split; runs of one name are its seeds.

    Args:
        paths: Run folders, or folders of ``seed*`` run folders.

    Raises:
        ValueError: No path, no run there, a file missing, unreadable or of the wrong content, one
            seed twice, one name for different recipes, pairs beside two views, different test
            pairs or classes, or results that are not :func:`comparable`.
    """
    if not paths:
        raise ValueError("no run folder given")
    named: dict[str, list[SeedRun]] = {}
    found = [_load_seed(folder) for path in paths for folder in _folders(Path(path))]
    for run in found:
        _same_task(run, found[0])
        named.setdefault(_describe(run)[0], []).append(run)
    runs = [_join(name, seeds) for name, seeds in named.items()]
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


def _join(name: str, seeds: list[SeedRun]) -> Run:
    seeds = sorted(seeds, key=lambda run: run.seed)
    described = {_describe(run) for run in seeds}
    if len(described) > 1:
        raise ValueError(
            f"different recipes share the name {name}: {sorted(described)}; give each its own"
        )
    numbers = [run.seed for run in seeds]
    if len(set(numbers)) < len(numbers):
        folders = ", ".join(str(run.path) for run in seeds)
        raise ValueError(
            f"{name} has seeds {numbers}, one of them twice ({folders}): give each run once, and "
            "different recipes different names"
        )
    _, family, control = described.pop()
    return Run(name, family, control, tuple(seeds))


def _describe(run: SeedRun) -> tuple[str, str, str]:
    control = run.config.get("control", "constant")
    kind = str(control.get("kind", "constant") if isinstance(control, dict) else control)
    family = str(run.config.get("family", "loss"))
    name = str(run.config.get("name", run.path.name))
    return name, FAMILIES.get(family.lower(), family), CONTROLS.get(kind.lower(), kind)


def _load_seed(path: Path) -> SeedRun:
    config = _config(_require(path, "config.yaml"))
    results = _json(_require(path, "results.json"))
    if not isinstance(results, dict) or not isinstance(results.get("test"), dict):
        raise ValueError(f'{path / "results.json"} has no "test" metrics: is the run finished?')
    test = _features(path) if results.get("task") == "views" else _embeddings(path)
    samples = _arrays(path / "samples.npz") if (path / "samples.npz").exists() else {}
    pictures = path / "test_images.npz"
    images = _arrays(pictures).get("images") if pictures.exists() else None
    history = _history(path / "history.jsonl")
    return SeedRun(path, config, results, history, samples, test, images)


def _embeddings(path: Path) -> dict[str, Array]:
    file = _require(path, "embeddings.npz")
    test = _arrays(file, ("x", "y", "y_of_x", "captions"))
    if len(test["captions"]) != len(test["y"]):
        raise ValueError(f"{file} has {len(test['captions'])} captions for {len(test['y'])} y")
    return test


def _features(path: Path) -> dict[str, Array]:
    file = _require(path, "features.npz")
    names = [f"{split}{part}" for split in ("train", "test") for part in ("", "_labels", "_groups")]
    found = _arrays(file, names)
    for split in ("train", "test"):
        rows = [len(found[f"{split}{part}"]) for part in ("", "_labels", "_groups")]
        if len(set(rows)) > 1:
            raise ValueError(
                f"{file} has {rows[0]} features, {rows[1]} classes and {rows[2]} groups of the "
                f"{split} split"
            )
    queries = len(found["test"])
    for name, right in found.items():
        if name.startswith(RIGHT) and (right.dtype != np.bool_ or right.shape != (queries,)):
            raise ValueError(
                f"{file} has {right.dtype} {right.shape} as {name}, not bool ({queries},)"
            )
    return found


def _config(path: Path) -> dict[str, Any]:
    """The configuration, with what is recorded beside it under names of its own."""
    try:
        record = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} does not hold a mapping")
    if not isinstance(record.get("config"), dict):
        return record
    beside = {"data": "fingerprint", "versions": "versions"}
    known = {new: record[old] for old, new in beside.items() if old in record}
    return {**record["config"], **known}


def _require(path: Path, name: str) -> Path:
    if not (path / name).exists():
        raise ValueError(f"{path} has no {name}: is the run finished?")
    return path / name


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def _history(path: Path) -> list[Mapping[str, Any]]:
    if not path.exists():
        return []
    rows: list[Mapping[str, Any]] = []
    lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}, is not valid JSON: {error}") from error
    return rows


def _arrays(path: Path, names: Sequence[str] = ()) -> dict[str, Array]:
    """Everything in a file, which must have these."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as plain arrays: {error}") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return found
