"""Runs as a report sees them: one training, and one recipe with its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tauten.evaluation import QueryRanks, ranks
from tauten.report.known import control_of, loss_of

Array = npt.NDArray[Any]

GROUP_ORDER = ("head", "mid", "tail")
RIGHT = "right_"
"""Before the name of a linear probe in ``features.npz``: which test images it has right."""


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
    def y_of_x(self) -> list[list[int]]:
        """For each x the list of its y's."""
        flat = self.test["y_of_x"]
        if "y_of_x_offsets" in self.test:
            return [part.tolist() for part in np.split(flat, self.test["y_of_x_offsets"][1:-1])]
        return [[int(j) for j in np.atleast_1d(row) if j >= 0] for row in flat]

    @cached_property
    def groups(self) -> dict[str, list[str]]:
        """Group names of the queries of each direction; empty lists where not recorded.

        Of two views there is one direction, "".

        A y without a recorded group is in that of the first x that it belongs to.
        """
        if self.task == "views":
            return {"": [str(group) for group in self.test["test_groups"]]}
        of_x = [str(group) for group in self.test.get("group_of_x", ())]
        if not any(of_x):
            return {"x2y": [], "y2x": []}
        if "group_of_y" in self.test:
            return {"x2y": of_x, "y2x": [str(group) for group in self.test["group_of_y"]]}
        of_y = [""] * len(self.test["y"])
        for group, own in zip(of_x, self.y_of_x, strict=True):
            for j in own:
                of_y[j] = of_y[j] or group
        return {"x2y": of_x, "y2x": of_y}

    @cached_property
    def ranks(self) -> dict[str, QueryRanks]:
        """Exact ranks of all test queries, both directions."""
        x, y = torch.from_numpy(self.test["x"]), torch.from_numpy(self.test["y"])
        return ranks(x, y, self.y_of_x)

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
