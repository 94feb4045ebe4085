"""Runs as a report sees them: one training, and one recipe with its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from tauten.evaluation import QueryRanks, class_scores
from tauten.outcome import GROUPS, OUTCOME, Outcome, of_run
from tauten.outcome.files import y_of_x
from tauten.report.known import control_of, loss_of

Array = npt.NDArray[Any]

GROUP_ORDER = GROUPS
KNN = "knn@"


@dataclass(frozen=True)
class SeedRun:
    """One training run.

    Attributes:
        path: Its folder.
        config: The resolved configuration.
        results: Final metrics and protocol.
        history: Logged steps, oldest first.
        samples: Counts and temperatures per sample; empty where not recorded.
        test: Of pairs: test embeddings, correspondence, captions, groups. Of two views: features,
            classes and groups of the training and the test split, and which test images its linear
            probes have right, where recorded.
        images: (n, H, W, 3) uint8 test images, or None.
    """

    path: Path
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    samples: Mapping[str, Array]
    test: Mapping[str, Array]
    images: Array | None

    @property
    def task(self) -> str:
        """ "pairs" or "views"."""
        return str(self.results.get("task", "pairs"))

    @property
    def seed(self) -> int:
        """Seed of weights, batches and augmentation."""
        return int(self.config.get("seed", 0))

    @property
    def metrics(self) -> Mapping[str, float]:
        """Final test metrics, flat."""
        metrics: Mapping[str, float] = self.results["test"]
        return metrics

    @property
    def captions(self) -> list[str]:
        """(m,) the text of each y."""
        return [str(caption) for caption in self.test["captions"]]

    @cached_property
    def outcome(self) -> Outcome:
        """Return the results of each test query, as recorded, or else as the arrays give them."""
        names = [name for name in self.metrics if name.startswith(KNN) and "/" not in name]
        outcome = of_run(self.path, self.test, [int(name.removeprefix(KNN)) for name in names])
        queries = len(self.test["test" if self.task == "views" else "x"])
        if (outcome.task, len(outcome.first)) != (self.task, queries):
            raise ValueError(
                f"{self.path / OUTCOME} has {len(outcome.first)} queries of {outcome.task}, beside "
                f"arrays of {queries} of {self.task}"
            )
        return outcome

    @cached_property
    def y_of_x(self) -> list[list[int]]:
        """Return for each x the list of its y's."""
        return y_of_x(self.test)

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Return group names of the queries by direction; empty lists where not recorded.

        With two views there is one direction, "".
        """
        sides = self.outcome.sides.items()
        return {way: list(side.groups) if any(side.groups) else [] for way, side in sides}

    @property
    def ranks(self) -> dict[str, QueryRanks]:
        """Return exact ranks of all test queries, both directions."""
        sides = self.outcome.sides.items()
        return {way: side.ranks for way, side in sides if side.ranks is not None}

    @cached_property
    def labels(self) -> list[str]:
        """Return (n,) the class of each x, "" where it has none; empty where not recorded."""
        of_x = [str(label) for label in self.test.get("label_of_x", ())]
        return of_x if any(of_x) else []

    @cached_property
    def class_precision(self) -> dict[str, Tensor]:
        """Return average precision of the same class, by ``x2y``, ``y2x``, ``x2x``, ``y2y``.

        A y is of the class of the first x that it belongs to. NaN where no candidate is relevant;
        empty where classes are not recorded.
        """
        if not self.labels:
            return {}
        of_x = [label or None for label in self.labels]
        of_y: dict[int, str | None] = {}
        for label, own in zip(of_x, self.y_of_x, strict=True):
            for j in own:
                of_y.setdefault(j, label)
        x, y = torch.from_numpy(self.test["x"]), torch.from_numpy(self.test["y"])
        found = class_scores(x, of_x, y, [of_y.get(j) for j in range(len(y))])
        return {way: scores.average_precision() for way, scores in found.items()}

    @property
    def steps(self) -> int:
        """Optimiser steps of the run; 0 where not recorded."""
        logged = [int(row["step"]) for row in self.history if "step" in row]
        return int(self.results.get("total_steps", max(logged, default=0)))


@dataclass(frozen=True)
class Run:
    """One recipe, trained with one or several seeds.

    Attributes:
        name: Short name, unique in a report.
        family: The loss, as displayed.
        control: What sets its temperature or margin, as displayed; "constant" is a baseline.
        seeds: Its runs, by ascending seed.
    """

    name: str
    family: str
    control: str
    seeds: tuple[SeedRun, ...]

    @property
    def first(self) -> SeedRun:
        """The run shown where only one can be."""
        return self.seeds[0]

    @property
    def task(self) -> str:
        """ "pairs" or "views"."""
        return self.first.task

    @property
    def knob(self) -> str:
        """Quantity that the control sets: "temperature" or "margin"."""
        loss = loss_of(self.first.config)
        recorded = str(self.first.results.get("strength", "temperature"))
        return recorded if loss is None else loss.strength

    @property
    def symbol(self) -> str:
        """The knob's letter."""
        return "m" if self.knob == "margin" else "τ"

    @property
    def period(self) -> float | None:
        """Steps per full oscillation of the control, or None if it does not oscillate."""
        control = control_of(self.first.config)
        if control is None or not self.first.steps:
            return None
        return control.period(self.first.steps)

    @property
    def held(self) -> int:
        """Steps for which the control holds a value: those of an epoch for TS by epoch, else 1."""
        control, optim = control_of(self.first.config), self.first.config.get("optim")
        epochs = optim.get("epochs") if isinstance(optim, dict) else None
        if control is None or not epochs or not self.first.steps:
            return 1
        return control.held(max(1, round(self.first.steps / float(epochs))))
