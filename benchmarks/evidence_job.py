"""Trains the settings of a study and writes its tables."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from evidence_data import DATA
from evidence_settings import Setting
from tqdm import tqdm

from tauten.comparison.cells import FEATURES, Cell, load_queries, run_cell
from tauten.comparison.contrasts import Contrast
from tauten.comparison.features import load
from tauten.comparison.grid import Grid
from tauten.comparison.methods import Method, configure
from tauten.comparison.pool import Failure, Task, run_tasks
from tauten.comparison.summary import COLUMNS
from tauten.outcome import Outcome
from tauten.training import Config, to_dict

EVIDENCE = Path(__file__).resolve().parents[1] / "docs" / "evidence"
METRICS = ("mean_recall", "hit@1", "x2y/hit@5", "n")
HIDDEN = 512
#: ranks of the test queries by setting and seed
Found = dict[str, dict[int, Outcome]]


@dataclasses.dataclass(frozen=True)
class Job:
    """A study on one set of data.

    Attributes:
        root: its folder.
        data: "emoji" or "photos".
        settings: to be trained.
        seeds: of each.
        processes: workers.
        split: what stands in the place of the test split.
    """

    root: Path
    data: str
    settings: Sequence[Setting]
    seeds: Sequence[int]
    processes: int
    split: str = "test"

    @property
    def base(self) -> Config:
        """What all cells share: the default of a comparison on features."""
        config = Grid(self.root, mode="frozen", hidden=HIDDEN).base()
        if self.data == "photos":
            config.data.source, config.data.tail = DATA[self.data], 50
        return config

    def cells(self) -> dict[tuple[str, int], Cell]:
        """By key of the setting and seed."""
        found = {}
        for setting in self.settings:
            print_of = load(self.folder(setting) / FEATURES).fingerprint
            for seed in self.seeds:
                config = configure(self.base, Method(setting.control, "", {}), setting.settings)
                config.seed, config.output = seed, Path("run")
                found[setting.key, seed] = Cell(
                    control=setting.control,
                    setting=setting.name,
                    settings=setting.settings,
                    config=to_dict(config),
                    data=DATA[self.data],
                    fingerprint=print_of,
                    runner="frozen",
                    hidden=HIDDEN,
                    threads=1,
                    test=True,
                )
        return found

    def folder(self, setting: Setting) -> Path:
        """With the features that a setting is trained on."""
        return self.root / setting.sizes

    def run(self) -> Found:
        """Ranks of the test queries by setting and seed."""
        cells, by_key = self.cells(), {setting.key: setting for setting in self.settings}
        tasks = [
            Task(f"{key} {seed}", run_cell, (cell, self.folder(by_key[key])))
            for (key, seed), cell in cells.items()
        ]
        with tqdm(total=len(tasks), desc=self.root.name, unit="training") as bar:
            done = run_tasks(tasks, self.processes, bar)
        failed = [value for value in done.values() if isinstance(value, Failure)]
        if failed:
            raise RuntimeError("; ".join(f"{f.task}: {f.error}" for f in failed))
        groups = self._groups()
        found: Found = {}
        for (key, seed), cell in cells.items():
            outcome = load_queries(self.folder(by_key[key]) / cell.place)
            found.setdefault(key, {})[seed] = outcome.grouped(groups)
        return found

    def _groups(self) -> list[str]:
        """Head, mid or tail of each query, by its class whatever the temperature is shifted by."""
        features, data = load(self.root / "classes" / FEATURES), self.base.data
        return features.classes(data.head, data.tail).groups(features["test"].labels)


def write(name: str, job: Job, found: Found, compared: list[Contrast]) -> None:
    """``NAME.csv`` with a row per cell, group and metric, and ``NAME_differences.csv``."""
    rows: list[Sequence[Any]] = []
    for (key, seed), cell in job.cells().items():
        told = json.dumps(dict(cell.settings), sort_keys=True)
        data = cell.data if job.split == "test" else f"{cell.data} {job.split}"
        for group, metrics in found[key][seed].metrics().items():
            place = (data, cell.control, cell.force, seed, group)
            rows += [(*place, m, repr(metrics[m]), told, cell.setting) for m in METRICS]
    table(name, COLUMNS, rows)
    fields = list(Contrast.__dataclass_fields__)
    told_of = [["mean_recall", *(getattr(c, f) for f in fields), c.verdict] for c in compared]
    table(f"{name}_differences", ["metric", *fields, "verdict"], told_of)


def table(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a csv into docs/evidence."""
    path = EVIDENCE / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    print(path)
