"""Runs as a report sees them: one training, and one recipe with its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from tauten.outcome import GROUPS, OUTCOME, Outcome, of_run
from tauten.outcome.files import y_of_x
from tauten.outcome.made import with_classes
from tauten.report.known import control_of, loss_of
from tauten.report.search import Search, of_embeddings, of_features

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
        if self.task == "pairs" and "class_map_within" not in outcome.first.scores:
            x, y = (torch.from_numpy(self.test[side]) for side in "xy")
            return with_classes(outcome, x, y, [str(n) for n in self.test.get("label_of_x", ())])
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
    def labels(self) -> list[str]:
        """Return the class of each x, or image, "" where it has none; empty where not recorded."""
        of_x = list(self.outcome.first.labels)
        return of_x if any(of_x) else []

    @cached_property
    def searches(self) -> dict[str, Search]:
        """Return what is searched by what, by direction."""
        if self.task == "views":
            return {"": of_features(self.test)}
        return of_embeddings(self.test, self.y_of_x, self.captions)

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
