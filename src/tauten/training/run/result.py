"""The result of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tauten.files import need, read_sealed
from tauten.training.run.names import RESULTS


@dataclass(frozen=True)
class RunResult:
    """Result of a finished run.

    Attributes:
        output: the run's folder.
        test: metrics of the best checkpoint on the test split, with intervals and groups.
        val: the same on the validation split, by which the checkpoint was chosen.
        best_step: optimiser step of the best checkpoint.
        total_steps: optimiser steps of the training.
        wall_s: seconds of work, over all starts.
    """

    output: Path
    test: dict[str, float]
    val: dict[str, float]
    best_step: int
    total_steps: int
    wall_s: float


def load_result(run: Path) -> RunResult:
    """Load the result of a finished run.

    Raises:
        ValueError: the run has not finished, or the file is damaged.
    """
    path = run / RESULTS
    if not path.exists():
        raise ValueError(f"{run} has no {RESULTS}: the run has not finished")
    record = read_sealed(path, ())
    numbers = (int, float)
    fields = {"test": dict, "val": dict, "best_step": int, "total_steps": int, "wall_s": numbers}
    need(record, fields, path)
    return RunResult(
        output=run,
        test=record["test"],
        val=record["val"],
        best_step=record["best_step"],
        total_steps=record["total_steps"],
        wall_s=record["wall_s"],
    )
