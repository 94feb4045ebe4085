"""Trains settings end to end, one cell each, and keeps what they found."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
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
RECALL, CLASS_MAP = "mean_recall", "class_map"
#: what is compared where there are pairs, and what chooses for pairs, for classes, and for both
PAIRS = (RECALL, CLASS_MAP)
OF_PAIRS = {"instances": (RECALL,), "classes": (CLASS_MAP,), "both": PAIRS}
#: the same for two views, which have classes alone
VIEWS = ("knn@1/class_mean", "knn@10/class_mean")
OF_VIEWS = {"classes": VIEWS[1:]}
#: what test queries found, by setting and seed
Found = dict[str, dict[int, Outcome]]


@dataclasses.dataclass(frozen=True)
class Study:
    """Trainings on one set of data, each in a folder of its own.

    Weights are those at the end: one training then serves all targets.

    Attributes:
        name: with which its files begin.
        root: its folder.
        tried: settings that are trained with the first seed, and chosen from.
        causes: a wide shift and its parts.
        data: source of the data, and its column of classes; None for those of the recipe.
        recipe: whose towers, optimiser and data it takes.
        epochs: of each training.
        seeds: of what was chosen, and of a shift's parts; settings are chosen with the first.
        metrics: what is compared.
        targets: metrics whose sum chooses, by what is wanted.
    """

    name: str
    root: Path
    tried: Sequence[Setting]
    causes: Sequence[Setting]
    data: tuple[str, str] | None = None
    recipe: str = "emoji"
    epochs: float = 20.0
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    metrics: tuple[str, ...] = PAIRS
    targets: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: OF_PAIRS)

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
        grid = Grid(self.root, self.recipe, mode="train", family="infonce", settings=shared)
        return grid.base()

    def cell(self, setting: Setting, seed: int) -> Cell:
        """Return the training of a setting with a seed."""
        config = configure(self.base, Method(setting.rule, "", {}), setting.settings)
        config.seed, config.output = seed, Path("run")
        return Cell(
            control=setting.rule.replace(" ", "-"),
            setting=setting.name.replace(" ", "-"),
            settings=setting.settings,
            config=to_dict(config),
            data=Path(config.data.source.partition(":")[0]).name,
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
                    for name in self.metrics
                    if name in result.metrics["all"]
                )
                seconds = time.perf_counter() - start
                print(f"{time.strftime('%H:%M:%S')} {setting.key} seed {seed}: {found}, ", end="")
                print(f"{seconds:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)

    def finished(self, settings: Sequence[Setting], seed: int) -> list[Setting]:
        """Return the settings whose training with this seed is done."""
        return [s for s in settings if finished(self.root / self.cell(s, seed).place)]

    def queries(self, settings: Sequence[Setting]) -> Found:
        """Return what finished trainings found for the test queries, by setting and seed."""
        found: Found = {}
        for seed in self.seeds:
            for setting in self.finished(settings, seed):
                outcome = load_queries(self.root / self.cell(setting, seed).place)
                found.setdefault(setting.key, {})[seed] = outcome
        return found

    def found(self, setting: Setting, seed: int, split: str) -> dict[str, dict[str, float]]:
        """Return what is compared, on a split by group, of a finished training."""
        path = self.root / self.cell(setting, seed).place / "run" / "results.json"
        values: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))[split]

        def of(metric: str, end: str) -> float:
            if metric != RECALL:
                return values[f"{metric}{end}"]
            hits = (f"{side}/hit@{k}{end}" for side in ("x2y", "y2x") for k in (1, 5, 10))
            return statistics.fmean(values[hit] for hit in hits)

        ends = {group: "" if group == ALL else f"/{group}" for group in (ALL, *GROUPS)}
        return {
            group: {metric: of(metric, end) for metric in self.metrics}
            for group, end in ends.items()
        }

    def chosen(self) -> dict[tuple[str, str], Setting]:
        """Return the best finished setting on validation by (rule, target)."""
        done = self.finished(self.tried, self.seeds[0])
        found = {s.key: self.found(s, self.seeds[0], "val")[ALL] for s in done}

        def score(setting: Setting, target: str) -> float:
            return sum(found[setting.key][metric] for metric in self.targets[target])

        return {
            (rule, target): max((s for s in done if s.rule == rule), key=lambda s: score(s, target))
            for rule in dict.fromkeys(s.rule for s in done)
            for target in self.targets
        }

    def between(self) -> list[Setting]:
        """Return the constants between the best for pairs and the best for classes."""
        chosen = self.chosen()
        if ("constant", "instances") not in chosen:
            return []
        ends = (chosen["constant", target] for target in ("instances", "classes"))
        low, high = sorted(setting.settings["control.value"] for setting in ends)
        levels = (s for s in self.tried if s.rule == "constant")
        return [s for s in levels if low < s.settings["control.value"] < high]

    def seconds(self) -> list[float]:
        """Return the time of each finished training."""
        settings = list({s.key: s for s in (*self.tried, *self.causes)}.values())
        cells = [self.cell(s, n) for n in self.seeds for s in self.finished(settings, n)]
        results = [finished(self.root / cell.place) for cell in cells]
        return [result.seconds for result in results if result is not None]
