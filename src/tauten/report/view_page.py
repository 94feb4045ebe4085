"""Parts peculiar to a page on two views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tauten.evaluation import geometry
from tauten.outcome import ALL
from tauten.report import plots, settings, view_plots
from tauten.report.numbers import Numbers
from tauten.report.runs import KNN, Array, Run
from tauten.report.view_gallery import gallery
from tauten.report.view_numbers import ViewNumbers, collect

GEOMETRY = {"uniformity/x": "uniformity", "tolerance/x": "tolerance"}
LINEAR = "linear_lt"


def parts(
    loaded: Sequence[Run],
    pictures: Array | None,
    primary: str | None,
    examples: int,
    bootstrap: int,
    seed: int,
) -> tuple[str, Numbers, str, dict[str, Any]]:
    """Return template, numbers, metric, variables.

    Raises:
        ValueError: a primary metric that is no recorded number of neighbours.
    """
    numbers = collect(loaded, bootstrap, seed)
    near = [name for name in numbers.metrics if name.startswith(KNN)]
    metric = primary or (near[-1] if near else "")
    if metric not in near:
        raise ValueError(f"primary must be one of {', '.join(near)}, not {metric!r}")
    bars = [metric, LINEAR] if LINEAR in numbers.metrics else [metric]
    own = {
        "differences": {name: plots.differences(numbers, name) for name in bars},
        "group_bars": [panel for name in bars for panel in plots.group_bars(numbers, name)],
        "class_panels": view_plots.by_class_size(numbers, near),
        "similarity_panels": plots.similarities(
            numbers, lambda run: view_plots.cosines(numbers, run)
        ),
        "geometry": _geometry(numbers),
        "queries": [] if pictures is None else gallery(numbers, pictures, examples, seed),
        "pictures": "test and training",
        "protocol": _protocol(numbers, bootstrap, seed),
        "compared_in_part": any(
            numbers.cells[run.name, "", ALL, name].difference is None
            for run, _ in numbers.compared()
            for name in numbers.metrics
        ),
    }
    return "views.html.j2", numbers, metric, own


def _geometry(numbers: ViewNumbers) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return headings and rows (run, values), mean over seeds."""
    rows = []
    for run in numbers.runs:
        tests = [numbers.tests[run.name, seed.seed] for seed in run.seeds]
        each = [geometry(test.x, test.x, test.of_x) for test in tests]
        values = [float(np.mean([part[key] for part in each])) for key in GEOMETRY]
        rows.append((run.name, [f"{value:.3f}".replace("-", "−") for value in values]))
    return list(GEOMETRY.values()), rows


def _protocol(numbers: ViewNumbers, bootstrap: int, seed: int) -> list[tuple[str, str]]:
    """Return how the numbers were obtained, as (what, how)."""
    test = next(iter(numbers.tests.values()))
    rows = [
        (
            "Test",
            f"{len(test.x):,} images of {len(test.of_x.unique()):,} classes, classified by the "
            f"features of {len(test.known):,} training images.",
        ),
        (
            "Intervals",
            "95 %, percentile bootstrap over the test images of each class, classes held fixed, as "
            f"recorded by the run; with several seeds over seeds and images, {bootstrap:,} "
            f"replicates, resampling seed {seed}; of linear probes of several seeds, where the "
            "outcome of each image is not recorded, normal, from the recorded intervals and the "
            "spread over seeds.",
        ),
        (
            "Differences",
            "Paired: both runs are resampled with the same images and seeds, "
            f"{bootstrap:,} replicates. Measurable means that the 95 % interval over two seeds or "
            "more excludes 0.",
        ),
        *settings.checkpoints(numbers.runs),
    ]
    recorded = numbers.runs[0].first.results.get("protocol", {})
    if isinstance(recorded, Mapping):
        rows += [(f"{str(key).capitalize()}, recorded", str(how)) for key, how in recorded.items()]
    return [*rows, settings.CAUTION]
