"""Description of how a comparison was made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tauten.comparison.cells import load_cell
from tauten.comparison.kinds import Kind
from tauten.comparison.summary import Summary
from tauten.evaluation import TIES

_STRENGTH: dict[Kind, str] = {
    "temperature": "Schedules set the temperature of a loss of pairs.",
    "margin": "Schedules set the margin of a max-margin loss of pairs.",
    "views": "Schedules set the temperature of a loss between two views of each image.",
}
_CLASSIFIED = (
    "Test images, classified by a majority vote of the nearest training images in the features "
    "before the projector; class_mean: mean of the classes' own accuracies, in which replicates "
    "weigh each image 1 over the size of its class."
)


def settings(summary: Summary) -> list[list[str]]:
    """Return a row for each variant: its name, what it is, and its settings."""
    rows = []
    for variant in summary.variants:
        method = summary.grid.catalogue[variant.control]
        rows.append([variant.name, method.what, one_line({**variant.settings, **method.fixed})])
    return rows


def one_line(settings: Mapping[str, Any]) -> str:
    """Return settings in one line."""
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def common(summary: Summary) -> list[tuple[str, str]]:
    """Return the training configuration of the baseline's first cell, without its control."""
    name = next(iter(summary.trained.results))
    tree = load_cell(summary.grid.output / name).config
    rows = []
    for part in ("model", "optim", "data", "evaluation"):
        rows += [(f"{part}.{key}", str(value)) for key, value in tree[part].items()]
    return rows


def protocol(summary: Summary) -> list[tuple[str, str]]:
    """Describe how the numbers came about."""
    grid = summary.grid
    config = grid.base()
    chosen = (
        "last checkpoint"
        if config.evaluation.metric == "last"
        else f"checkpoint with the best {config.evaluation.metric} on the validation split"
    )
    runner = {
        "frozen": "Heads on fixed features; the weights at the end of the training are tested.",
        "train": f"End to end; the {chosen} is tested.",
    }
    rows = [
        ("Training", runner[grid.runner]),
        ("Strength", _STRENGTH[grid.kind]),
        (
            "Pairing",
            "A seed gives every control the same initial weights of the heads or towers and the "
            "same batches; query i is the same query for all.",
        ),
        (
            "Tuning",
            f"For each control with settings of its own, {grid.tuning}; scored on the validation "
            f"split with seed {grid.seeds[0]}; "
            "on features those below the median of finished ones are stopped. Parts of a schedule "
            "take its settings. The test split is not used.",
        ),
        (
            "Intervals",
            f"Over seeds by their spread, with Student's few degrees of freedom; over queries by "
            f"{summary.bootstrap} replicates drawn within head, mid and tail, the same for all "
            "controls. Thick: of a comparison by itself. Thin: simultaneous, so that with 95 % "
            "probability all hold (single-step max-T). One seed gives no verdict.",
        ),
        (
            "Effect size",
            "d: the difference over the root mean square of both standard deviations over seeds.",
        ),
        (
            "Cost",
            "Time: median step while other cells trained beside it; end to end of a few steps on a "
            "copy, after the training. Memory: the most that a step allocates at a time and what "
            "the loss keeps between steps, exact.",
        ),
    ]
    if grid.kind == "views":
        rows.append(("Queries", _CLASSIFIED))
    else:
        rows.append(("Ties", TIES))
    if grid.recipe == "synthetic":
        made = dataclasses.asdict(grid.synthetic)
        options = ", ".join(f"{name} = {value}" for name, value in made.items())
        rows.append(
            (
                "Synthetic pairs",
                f"{options}. Theory gives the higher temperature to: {grid.synthetic.expected()}.",
            )
        )
    return rows
