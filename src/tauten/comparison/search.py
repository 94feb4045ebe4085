"""A search for the settings of the demo: grids of comparisons whose settings are listed.

Everything is chosen on the validation split. A schedule is searched around the best constant, so a
grid of constants is trained first; the grid of all controls goes on from it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from tauten.comparison.compare import compare
from tauten.comparison.grid import Grid
from tauten.comparison.methods import Settings
from tauten.comparison.train import Trained, train_grid
from tauten.comparison.tuning import best
from tauten.files import replace_text
from tauten.recipes.emoji import EPOCHS, Learned

#: with a constant τ the two forces are the same; with a constant margin they are not
CONSTANTS: dict[str, tuple[Settings, ...]] = {
    "infonce": tuple({"control.value": tau} for tau in (0.03, 0.05, 0.07, 0.1, 0.15)),
    "maxmargin": tuple(
        {"control.value": margin} | force
        for margin in (0.1, 0.2, 0.4)
        for force in ({}, {"loss.force": "equalized"})
    ),
}
#: schedules to try: amplitude and spread over classes as shares of the best constant, periods over
#: the training, force
SCHEDULES: tuple[tuple[float, float, float, str], ...] = (
    (1.0, 0.3, 1.0, "plain"),
    (0.3, 0.9, 1.0, "plain"),
    (1.0, 0.6, 2.5, "equalized"),
    (1.0, 0.6, 5.0, "equalized"),
    (0.6, 0.6, 1.0, "equalized"),
    (0.3, 0.3, 0.5, "equalized"),
    (0.6, 0.3, 0.5, "equalized"),
    (0.3, 0.3, 5.0, "equalized"),
)
#: learned temperatures to try: ρ, learning rate, bounds, γ
LEARNED: dict[str, tuple[Learned, ...]] = {
    "isogclr": (
        Learned("isogclr", "individual", 1.0, 0.01),
        Learned("isogclr", "individual", 1.5, 0.01),
        Learned("isogclr", "individual", 2.0, 0.01),
        Learned("isogclr", "individual", 2.5, 0.01),
        Learned("isogclr", "individual", 2.0, 0.03),
        Learned("isogclr", "individual", 2.0, 0.01, gamma=0.5),
    ),
    "tempnet": (
        Learned("sogclr", "tempnet", 1.5, 0.003, (0.02, 0.2)),
        Learned("sogclr", "tempnet", 2.0, 0.003, (0.02, 0.2)),
        Learned("sogclr", "tempnet", 2.5, 0.003, (0.02, 0.2)),
        Learned("sogclr", "tempnet", 2.0, 0.01, (0.02, 0.2)),
        Learned("sogclr", "tempnet", 2.0, 0.003, (0.05, 0.15)),
        Learned("sogclr", "tempnet", 2.0, 0.003, (0.02, 0.2), gamma=0.5),
    ),
    "fastclip": (
        Learned("fastclip", "learnable", 1.5, 0.003),
        Learned("fastclip", "learnable", 2.0, 0.003),
        Learned("fastclip", "learnable", 2.5, 0.003),
        Learned("fastclip", "learnable", 2.0, 0.01),
        Learned("fastclip", "learnable", 2.0, 0.003, gamma=0.2),
        Learned("fastclip", "learnable", 2.0, 0.003, gamma=0.5),
    ),
}
#: a schedule and what takes it apart, the constant of its mean first
PARTS = ("matched", "ts", "ics")
Searched = Literal["infonce", "maxmargin", "isogclr", "tempnet", "fastclip"]
TRIALS = "trials.csv"


def search(
    output: Path,
    families: Sequence[Searched] = ("infonce", "maxmargin"),
    epochs: float = EPOCHS,
    candidates: int = len(SCHEDULES),
    seeds: Sequence[int] = (0, 1),
    progress: bool = True,
) -> Path:
    """Search settings for emoji_lt on the validation split; started again, it goes on.

    For a loss: constants, then schedules of MM-TS around the best of them. For a way to learn the
    temperature: a list of settings. Published settings are tried too. The best and the published
    ones are trained with all seeds, and so are the parts of the schedule and the constant of its
    mean, in a comparison (see ``tauten compare``) that is written into a folder for each family.

    Args:
        output: folder for trials.csv and the comparisons.
        families: losses, or ways to learn a temperature, to search for.
        epochs: epochs of each training.
        candidates: schedules or learned settings tried for each, at most.
        seeds: the first for the search, all for what it finds.
        progress: show bars.

    Returns:
        Path of ``trials.csv``: the validation score of each training.

    Raises:
        ValueError: no seed, candidates < 1, a training that failed, or see
            :func:`tauten.comparison.compare`.
    """
    if not seeds:
        raise ValueError("seeds must be 1 or more, got none")
    if candidates < 1:
        raise ValueError(f"candidates must be 1 or more, got {candidates}")
    rows: list[dict[str, Any]] = []
    for family in families:
        shared: dict[str, Any] = {
            "output": Path(output) / family,
            "seeds": tuple(seeds),
            "settings": {"optim.epochs": epochs, "evaluation.every": max(1.0, epochs / 5)},
            "progress": progress,
        }
        if family == "infonce" or family == "maxmargin":
            grid = _of_schedules(family, candidates, shared)
        else:
            grid = _of_learned(family, candidates, shared)
        rows += _rows(family, compare(grid).summary.trained)
        _write(Path(output) / TRIALS, rows)
    return Path(output) / TRIALS


def _of_schedules(family: str, candidates: int, shared: Mapping[str, Any]) -> Grid:
    tried: dict[str, Sequence[Settings]] = {"constant": CONSTANTS[family]}
    first = train_grid(Grid(**shared, family=family, controls=("constant",), tried=tried))
    constant = best(first.trials["constant"])
    if constant is None:
        raise ValueError(f"no constant could be trained: {first.failures[0].error}")
    tried["mmts"] = around(constant.settings["control.value"], candidates)
    return Grid(**shared, family=family, controls=("constant", *PARTS, "mmts"), tried=tried)


def _of_learned(family: str, candidates: int, shared: Mapping[str, Any]) -> Grid:
    control = "fastclip-v3" if family == "fastclip" else family
    listed = [learned.settings() for learned in LEARNED[family][:candidates]]
    return Grid(**shared, controls=(control,), baseline=control, tried={control: listed})


def around(level: float, number: int) -> list[Settings]:
    """Return the first ``SCHEDULES`` with this middle of the shift; none reaches 0."""
    return [
        {
            "control.alpha": round(level * amplitude, 6),
            "control.shift_low": round(level * (1 - spread / 2), 6),
            "control.shift_high": round(level * (1 + spread / 2), 6),
            "control.oscillations": oscillations,
            "loss.force": force,
        }
        for amplitude, spread, oscillations, force in SCHEDULES[:number]
    ]


def _rows(family: str, trained: Trained) -> list[dict[str, Any]]:
    tuned = [
        (control, trial.setting, "", trial.settings, trial.val)
        for control, trials in trained.trials.items()
        for trial in trials
    ]
    final = [
        (cell.control, cell.setting, cell.seed, cell.settings, trained.results[name].val)
        for name, cell in trained.cells.items()
        if name in trained.results
    ]
    return [
        {
            "family": family,
            "control": control,
            "setting": setting,
            "seed": seed,
            "settings": json.dumps(dict(settings), sort_keys=True),
            "val": "" if val is None else repr(val),
        }
        for control, setting, seed, settings, val in (*tuned, *final)
    ]


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_text(path, file.getvalue())
