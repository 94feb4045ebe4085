"""Trains settings end to end, one cell each, and keeps what they found."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from evidence_settings import Setting

from tauten.comparison.cell_run import run_cell
from tauten.comparison.cells import Cell, finished, load_queries
from tauten.comparison.grid import Grid
from tauten.comparison.methods import Method, configure
from tauten.outcome import ALL, GROUPS, Outcome
from tauten.training import Config, to_dict

#: what a cell's run leaves that no table needs
_LARGE = ("embeddings.npz", "test_images.npz", "samples.npz", "history.jsonl")
#: what test queries found, by setting and seed
Found = dict[str, dict[int, Outcome]]


@dataclasses.dataclass(frozen=True)
class Study:
    """Trainings on one set of data, each in a folder of its own.

    Weights are those at the end: one training then serves both targets.

    Attributes:
        root: its folder.
        data: source of the data, and its column of classes; None for emoji_lt.
        epochs: of each training.
    """

    root: Path
    data: tuple[str, str] | None = None
    epochs: float = 20.0

    @property
    def base(self) -> Config:
        """What all cells share."""
        shared: dict[str, Any] = {
            "optim.epochs": self.epochs,
            "evaluation.every": self.epochs,
            "log_every": 145,
        }
        if self.data is not None:
            shared |= dict(zip(("data.source", "data.label"), self.data, strict=True))
        return Grid(self.root, recipe="emoji", mode="train", settings=shared).base()

    def cell(self, setting: Setting, seed: int) -> Cell:
        """Return the training of a setting with a seed."""
        config = configure(self.base, Method(setting.rule, "", {}), setting.settings)
        config.seed, config.output = seed, Path("run")
        return Cell(
            control=setting.rule.replace(" ", "-"),
            setting=setting.name.replace(" ", "-"),
            settings=setting.settings,
            config=to_dict(config),
            data=Path(config.data.source).name,
            fingerprint="",
            runner="train",
            hidden=0,
            threads=1,
            test=True,
        )

    def train(self, settings: Iterable[Setting], seeds: Iterable[int]) -> None:
        """Train what has not been trained, seed by seed."""
        settings = list(settings)
        for seed in seeds:
            for setting in settings:
                cell = self.cell(setting, seed)
                folder = self.root / cell.place
                if finished(folder) is not None:
                    continue
                start = time.perf_counter()
                result = run_cell(cell, self.root)
                for name in _LARGE:
                    (folder / "run" / name).unlink(missing_ok=True)
                found = " ".join(
                    f"{name} {100 * result.metrics['all'][name]:.1f}"
                    for name in ("mean_recall", "class_map")
                    if name in result.metrics["all"]
                )
                seconds = time.perf_counter() - start
                print(f"{time.strftime('%H:%M:%S')} {setting.key} seed {seed}: {found}, ", end="")
                print(f"{seconds:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)

    def finished(self, settings: Sequence[Setting], seed: int) -> list[Setting]:
        """Return the settings whose training with this seed is done."""
        return [s for s in settings if finished(self.root / self.cell(s, seed).place)]

    def queries(self, settings: Sequence[Setting], seeds: Sequence[int]) -> Found:
        """Return what finished trainings found for the test queries, by setting and seed."""
        found: Found = {}
        for seed in seeds:
            for setting in self.finished(settings, seed):
                outcome = load_queries(self.root / self.cell(setting, seed).place)
                found.setdefault(setting.key, {})[seed] = outcome
        return found

    def metrics(self, setting: Setting, seed: int, split: str) -> dict[str, tuple[float, float]]:
        """Return mean recall and class mAP of a split by group, of a finished training."""
        path = self.root / self.cell(setting, seed).place / "run" / "results.json"
        values: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))[split]
        ends = {group: "" if group == ALL else f"/{group}" for group in (ALL, *GROUPS)}
        return {
            group: (
                statistics.fmean(
                    values[f"{side}/hit@{k}{end}"] for side in ("x2y", "y2x") for k in (1, 5, 10)
                ),
                values[f"class_map{end}"],
            )
            for group, end in ends.items()
        }

    def seconds(self, settings: Sequence[Setting], seeds: Sequence[int]) -> list[float]:
        """Return the time of each finished training."""
        cells = [self.cell(s, seed) for seed in seeds for s in self.finished(settings, seed)]
        results = [finished(self.root / cell.place) for cell in cells]
        return [result.seconds for result in results if result is not None]
