"""The schedule of a run at every step, from its configuration and its control, not from the log.

A log that is written a few times a period shows no oscillation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tauten.outcome import ALL
from tauten.report.runs import Array, SeedRun

POINTS = 2048
"""Steps at which a schedule is drawn, at least, where it has as many."""
PER_PERIOD = 32
"""Steps of each period at which it is drawn, at least."""


@dataclass(frozen=True)
class Schedule:
    """A control over a training.

    Shape suffixes: T steps, U sizes of classes.

    Attributes:
        steps: (T,) ascending, from 0 to the last.
        value: (T, U) temperature or margin of the samples of a class of each size.
        count: (U,) sizes, ascending; one 0 where there are no classes.
        samples: (U,) training samples in classes of each size.
    """

    steps: Array
    value: Array
    count: Array
    samples: Array

    def mean(self) -> Array:
        """Return (T,) over all samples."""
        mean: Array = self.value @ (self.samples / self.samples.sum())
        return mean

    def over_time(self) -> float:
        """Return the mean over samples and steps."""
        span = self.steps[-1] - self.steps[0]
        return float(np.trapezoid(self.mean(), self.steps) / span)


def schedule(run: SeedRun) -> Schedule | None:
    """Return a run's schedule; None where it has none, or the logged means are not of it."""
    from tauten.training import from_dict

    logged = {row["step"]: float(row["tau/mean"]) for row in run.history if "tau/mean" in row}
    if not logged or not run.steps:
        return None
    beside = ("fingerprint", "versions")
    try:
        config = from_dict({name: part for name, part in run.config.items() if name not in beside})
        if not config.control.scheduled:
            return None
        steps = np.array([*logged])
        # a line has the value in its step, or that after it where an earlier version wrote it
        for at in (steps - 1, steps):
            values = _values(run, config, at)
            recorded = values.mean()[np.searchsorted(values.steps, at)]
            if np.allclose(recorded, [*logged.values()], rtol=1e-3):
                return values
    except ValueError:
        pass
    return None


def by_group(run: SeedRun, values: Schedule) -> dict[str, Array]:
    """Return (U,) samples of each group in classes of each size, by group;
    one group without classes.
    """
    names, sizes = run.samples.get("label_names", ()), run.samples.get("label_counts", ())
    data: Any = run.config.get("data")
    if not len(names) or not isinstance(data, Mapping):
        return {ALL: values.samples}
    from tauten.training.stores.classes import Classes

    counts = dict(zip(map(str, names), map(int, sizes), strict=True))
    of = Classes(counts, data["head"], data["tail"], data.get("groups", "counts")).groups([*counts])
    groups: dict[str, Array] = {}
    for group, size in zip(of, counts.values(), strict=True):
        weight = groups.setdefault(group, np.zeros(len(values.count)))
        weight[np.searchsorted(values.count, size)] += size
    return groups


def deciles(values: Schedule) -> Array:
    """Return (U,) the tenth of the samples that those of each size are in, sorted by count."""
    twice_middle = 2 * values.samples.cumsum() - values.samples
    tenth: Array = 10 * twice_middle // (2 * values.samples.sum())
    return tenth


def _values(run: SeedRun, config: Any, logged: Array) -> Schedule:
    from tauten.training.build import context

    counts = run.samples.get("counts", np.zeros(0, np.int64))
    some = torch.from_numpy(counts) if len(counts) else None
    training = context(config, max(len(counts), 1), some, run.steps)
    control = config.control.build(training)
    count, index, samples = np.unique(
        counts if len(counts) else np.zeros(1, np.int64), return_index=True, return_counts=True
    )
    period = config.control.period(run.steps)
    points = max(POINTS, int(PER_PERIOD * run.steps / period) if period else 0)
    grid = np.linspace(0, run.steps, min(points, run.steps) + 1).round().astype(np.int64)
    steps = np.union1d(grid, logged)
    with torch.no_grad():
        value = torch.stack([control.at(torch.from_numpy(index), int(t)) for t in steps])
    return Schedule(steps, value.double().numpy(), count, samples)
