"""One training of a grid in its folder: its record and its result, read and checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tauten.comparison.end_to_end import RUN
from tauten.files import is_part
from tauten.outcome import OUTCOME, Outcome
from tauten.outcome import load as load_outcome
from tauten.training.options.config_tree import completed, differences

CONFIG, RESULT, QUERIES = "config.json", "result.json", "queries.npz"
FEATURES = "features.npz"
Runner = Literal["frozen", "train"]
logger = logging.getLogger("tauten.comparison")
_DAMAGED = (
    *(ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, EOFError),
    *(FileNotFoundError, zipfile.BadZipFile, zlib.error),
)
#: what may differ between two starts of one cell
_FREE = ("threads", "versions")


@dataclass(frozen=True)
class Cell:
    """A training of a grid; what is needed to repeat it.

    Attributes:
        control: name of the control.
        setting: "default", "tuned", or "trial-N" of tuning.
        settings: options of the control by name.
        config: the training configuration as a tree of plain values.
        data: name of the data.
        fingerprint: fingerprint of the features; "" end to end, where the run folder has it.
        runner: "frozen" (heads on features) or "train" (end to end).
        hidden: width of the heads' hidden layer.
        threads: threads of torch.
        test: whether the test queries are ranked.
    """

    control: str
    setting: str
    settings: Mapping[str, Any]
    config: Mapping[str, Any]
    data: str
    fingerprint: str
    runner: Runner
    hidden: int
    threads: int
    test: bool

    @property
    def seed(self) -> int:
        """Seed of the weights and the batches."""
        return int(self.config["seed"])

    @property
    def force(self) -> str:
        """Force of the loss: ``"plain"`` or ``"equalized"``."""
        return str(self.config["loss"].get("force", "plain"))

    @property
    def place(self) -> Path:
        """The cell's folder within the comparison's."""
        if not self.test:
            return Path("tuning") / self.control / self.setting
        name = self.setting
        if name == "tuned":
            settings = json.dumps(dict(self.settings), sort_keys=True)
            name += f"-{hashlib.sha256(settings.encode()).hexdigest()[:6]}"
        return Path("cells") / self.control / f"{name}-seed{self.seed}"

    def record(self) -> dict[str, Any]:
        """Return the cell as plain values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    def check(self, root: Path) -> None:
        """Refuse a place where another cell is, of which anything is there beside its record.

        Raises:
            ValueError: with what differs.
        """
        path = root / self.place / CONFIG
        if not path.exists() or not _begun(path.parent):
            return
        stored = _record(path)
        if stored is None:
            return
        try:
            ours, theirs = (_comparable(record) for record in (self.record(), stored))
        except ValueError as error:
            raise ValueError(
                f"{path.parent} holds a cell that this version cannot repeat: {error}"
            ) from error
        changed = differences(ours, theirs)
        if changed:
            raise ValueError(
                f"{path.parent} holds another cell: {'; '.join(changed[:5])}. Choose another "
                "output, or remove that folder"
            )


def _begun(folder: Path) -> bool:
    """Return whether a training has left anything in the folder of a cell."""
    return any(path.name != CONFIG and not is_part(path.name) for path in folder.iterdir())


def _comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a record that must be equal; options unknown then have their default."""
    fixed = {name: value for name, value in record.items() if name not in _FREE}
    return fixed | {"config": completed(record["config"])}


@dataclass(frozen=True)
class Result:
    """Result of one cell.

    Attributes:
        metrics: test metrics by group and name; empty for a trial of tuning.
        val: score on the validation split.
        curve: [share of the training done, validation score] at each look.
        steps: optimiser steps done.
        stopped: whether median stopping ended it.
        seconds_per_step: median; where the steps were not timed, all time over their number.
        memory_mib: MiB of a step and of the loss's state; None where it was not measured.
        seconds: seconds that the whole cell took.
    """

    metrics: dict[str, dict[str, float]]
    val: float
    curve: list[list[float]]
    steps: int
    stopped: bool
    seconds_per_step: float
    memory_mib: float | None
    seconds: float


def finished(folder: Path) -> Result | None:
    """Return the result of a finished cell, None where there is none.

    A cell with a damaged file is named in the log and emptied, so that it is trained again.
    """
    if not any((folder / name).exists() for name in (CONFIG, RESULT)):
        return None
    try:
        if _record(folder / CONFIG) is None:
            raise ValueError(f"{CONFIG} cannot be read")
        if not (folder / RESULT).exists():
            return None
        result = load_result(folder)
        if result.metrics:
            _check_queries(result, load_queries(folder).metrics())
        return result
    except _DAMAGED as error:
        line = " ".join(str(error).split())
        logger.warning("%s is damaged and is trained again: %s", folder, line)
        shutil.rmtree(folder)
        return None


def load_queries(folder: Path) -> Outcome:
    """Return what a cell found for each test query: its run has written it, or the cell itself.

    Raises:
        OSError: there is none.
        ValueError: it is damaged.
    """
    of_run = folder / RUN / OUTCOME
    return load_outcome(of_run if of_run.exists() else folder / QUERIES)


def _check_queries(result: Result, values: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse queries that are not those that the result was computed from."""
    for group, metrics in result.metrics.items():
        for name, value in metrics.items():
            again = values.get(group, {}).get(name, math.nan)
            if not math.isclose(again, value, rel_tol=1e-6, abs_tol=1e-9):
                raise ValueError(
                    f"{RESULT} has {name} = {value!r} of {group}, {QUERIES} gives {again!r}"
                )


def _record(path: Path) -> dict[str, Any] | None:
    """Return what the file of a cell's configuration holds, None where it is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    return stored if isinstance(stored, dict) and isinstance(stored.get("config"), dict) else None


def load_cell(folder: Path) -> Cell:
    """Load the record of a cell.

    Raises:
        ValueError: the folder holds none.
    """
    try:
        record = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        record.pop("versions", None)
        return Cell(**record)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{folder} holds no cell of a comparison: {error}") from error


def load_result(folder: Path) -> Result:
    """Load the result of a finished cell.

    Raises:
        ValueError: it has not finished, or the file is damaged.
    """
    path = folder / RESULT
    try:
        result = Result(**json.loads(path.read_text(encoding="utf-8")))
        groups = [value for group in result.metrics.values() for value in group.values()]
        shares = [value for share, score in result.curve for value in (share, score)]
    except OSError as error:
        raise ValueError(f"{folder} has no {RESULT}: the cell has not finished") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    numbers = [result.val, result.steps, result.seconds_per_step, *groups, *shares]
    if not shares or not all(isinstance(number, (int, float)) for number in numbers):
        raise ValueError(f"{path} is damaged: it lacks numbers")
    return result
