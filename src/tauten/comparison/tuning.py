"""A small random search on the validation split, with median stopping."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tauten.comparison.cell_run import run_cell
from tauten.comparison.cells import Cell

#: finished trials before one may be stopped
_BEFORE_STOPPING = 2


@dataclass(frozen=True)
class Trial:
    """A setting that was tried.

    Attributes:
        setting: "trial-0" is the default.
        settings: options of the control by name.
        val: score on the validation split, where it got to; None where it failed.
        share: how much of the training was done.
        error: why it failed, or "".
    """

    setting: str
    settings: dict[str, Any]
    val: float | None
    share: float
    error: str = ""

    @property
    def finished(self) -> bool:
        """True where the trial came to its end, and so may be chosen."""
        return self.val is not None and self.share == 1.0


def tune(cells: Sequence[Cell], root: Path) -> list[Trial]:
    """Run the trials of one control in their order; see :class:`Median`.

    The order decides what is stopped, so they run one after another, and the outcome does not
    depend on the number of processes. The test split is not touched.
    """
    trials: list[Trial] = []
    curves: list[list[list[float]]] = []
    for cell in cells:
        assert not cell.test
        try:
            result = run_cell(cell, root, Median(curves))
        except Exception as error:
            line = " ".join(f"{type(error).__name__}: {error}".split())
            trials.append(Trial(cell.setting, dict(cell.settings), None, 0.0, line))
            continue
        if not result.stopped:
            curves.append(result.curve)
        share = result.curve[-1][0]
        trials.append(Trial(cell.setting, dict(cell.settings), result.val, share))
    return trials


class Median:
    """A rule that stops a trial whose best score so far is below the median of finished trials.

    The scores of the others count as their best up to the same share of the training (the median
    stopping rule of Golovin et al., KDD 2017).

    Args:
        curves: (share, score) pairs of each finished trial; may grow.
    """

    def __init__(self, curves: Sequence[Sequence[Sequence[float]]]) -> None:
        self.curves = curves
        self.best = -math.inf

    def __call__(self, share: float, score: float) -> bool:
        self.best = max(self.best, score)
        others = [
            max(value for at, value in curve if at <= share + 1e-9)
            for curve in self.curves
            if curve[0][0] <= share + 1e-9
        ]
        return len(others) >= _BEFORE_STOPPING and self.best < statistics.median(others)


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the finished trial with the highest score, the earliest of several;
    None if all failed.
    """
    finished = [trial for trial in trials if trial.finished]
    return max(finished, key=lambda trial: trial.val or 0.0) if finished else None
