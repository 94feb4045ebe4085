"""The training of one cell of a grid, and its repetition from the record."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from functools import lru_cache
from pathlib import Path

import torch

from tauten.comparison.cells import (
    CONFIG,
    FEATURES,
    QUERIES,
    RESULT,
    Cell,
    Result,
    finished,
    load_cell,
    load_result,
)
from tauten.comparison.end_to_end import train_run
from tauten.comparison.features import Features, load
from tauten.comparison.frozen import Found, Stop, train_heads
from tauten.files import replace_text
from tauten.outcome import save
from tauten.training import from_dict
from tauten.training.loop.environment import versions


def run_cell(cell: Cell, root: Path, stop: Stop | None = None) -> Result:
    """Train a cell, or return what an earlier start found.

    Args:
        cell: to train.
        root: folder of the comparison, with the features.
        stop: asked during a training on features.

    Raises:
        ValueError: the folder holds another cell, or the features are others.
        Exception: whatever training raises.
    """
    folder = root / cell.place
    cell.check(root)
    stored = finished(folder)
    if stored is not None:
        return stored
    folder.mkdir(parents=True, exist_ok=True)
    record = cell.record() | {"versions": versions() | {"threads": cell.threads}}
    replace_text(folder / CONFIG, json.dumps(record, indent=1))
    start = time.perf_counter()
    outcome = _train(cell, root, folder, stop)
    if outcome.queries is not None and cell.runner == "frozen":
        save(outcome.queries, folder / QUERIES)
    result = Result(
        metrics={} if outcome.queries is None else outcome.queries.metrics(),
        val=outcome.val,
        curve=[list(look) for look in outcome.curve],
        steps=outcome.steps,
        stopped=outcome.stopped,
        seconds_per_step=outcome.seconds_per_step,
        memory_mib=outcome.memory_mib,
        seconds=time.perf_counter() - start,
    )
    replace_text(folder / RESULT, json.dumps(dataclasses.asdict(result), indent=1))
    return result


def _train(cell: Cell, root: Path, folder: Path, stop: Stop | None) -> Found:
    threads = torch.get_num_threads()
    torch.set_num_threads(cell.threads)
    try:
        config = from_dict(dict(cell.config))
        if cell.runner == "train":
            return train_run(config, folder, test=cell.test)
        path = root / FEATURES
        features, fingerprint = _features(path, path.stat().st_mtime_ns)
        if fingerprint != cell.fingerprint:
            raise ValueError(
                f"{path} holds other features than the cell was planned with: choose another output"
            )
        return train_heads(config, features, cell.hidden, test=cell.test, stop=stop)
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)
def _features(path: Path, changed: int) -> tuple[Features, str]:
    """Return the features and their fingerprint, kept for the next cell of this process."""
    features = load(path)
    return features, features.fingerprint


def rerun(folder: Path, scratch: Path) -> tuple[Result, Result]:
    """Train a finished cell again from its record.

    Args:
        folder: folder of the cell, within its comparison.
        scratch: an empty or new folder to train it in.

    Returns:
        The recorded result and the new one: ``metrics``, ``val`` and ``curve`` are equal, bit for
        bit, on the same machine.

    Raises:
        ValueError: no finished cell, or a scratch folder that is not empty.
    """
    cell, recorded = load_cell(folder), load_result(folder)
    if scratch.exists() and any(scratch.iterdir()):
        raise ValueError(f"{scratch} is not empty: give a new folder")
    scratch.mkdir(parents=True, exist_ok=True)
    if cell.runner == "frozen":
        root = folder.resolve().parents[len(cell.place.parts) - 1]
        shutil.copyfile(root / FEATURES, scratch / FEATURES)
    return recorded, run_cell(cell, scratch)
