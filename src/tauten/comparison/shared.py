"""Settings that all cells of a grid share: such as would change nothing are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tauten.comparison.synthetic import SyntheticConfig

if TYPE_CHECKING:
    from tauten.comparison.grid import Grid

#: what a comparison sets itself, and by which option
_OWN = {
    "seed": "give --seeds",
    "output": "give --output",
    "evaluation.bootstrap": "give --bootstrap",
    "name": "cells are named by their control",
    "overwrite": "remove a cell's folder to train it again",
    "progress": "a comparison has one bar for all cells",
    "tensorboard": "cells write no events",
    "report_to": "cells report to no logger",
    "runlocal": "set optim.epochs and data.limit for a small trial",
}
#: of heads on features: what the training reads beside the control and the loss
_OF_HEADS = (
    *("family", "model.dim", "evaluation.metric", "optim.name", "optim.epochs"),
    *("optim.batch_size", "optim.lr", "optim.loss_lr", "optim.weight_decay", "optim.warmup"),
    *("optim.beta2", "optim.momentum", "optim.max_grad_norm", "data.head", "data.tail"),
)
#: of the data of a recipe: what changes nothing in its features
_NOT_OF_FEATURES = (
    *("groups", "alternative", "keywords", "buffer", "workers", "ahead", "relevancy"),
)
#: what controls fix and shared settings may give for those that do not
_EITHER = ("family", "loss.force")


def check_settings(grid: Grid) -> None:
    """Refuse a setting that no cell, or not every cell, would follow.

    Args:
        grid: a grid whose names are known to exist.

    Raises:
        ValueError: with the settings and what to do instead.
    """
    if grid.recipe != "synthetic" and grid.synthetic != SyntheticConfig():
        changed = _changed(grid.synthetic)
        raise ValueError(
            f"synthetic.{', synthetic.'.join(changed)}: of synthetic pairs only, not of "
            f"{grid.recipe}: give --recipe synthetic, or leave the setting out"
        )
    if grid.hidden and grid.runner == "train":
        raise ValueError("hidden layers are of heads on features: give --frozen, or no --hidden")
    for name in grid.settings:
        if name in _OWN:
            raise ValueError(f"{name} cannot be set for all cells: {_OWN[name]}")
        if grid.runner == "frozen" and not _of_heads(grid, name):
            what = "given" if grid.recipe == "synthetic" or grid.features is not None else "fixed"
            raise ValueError(
                f"{name} changes nothing in a training of heads on {what} features: leave it out"
            )
        setting = [m for m in grid.controls if name in _of_control(grid, m)]
        if name.startswith("control.") and not setting:
            raise ValueError(f"{name} is a setting of none of {', '.join(grid.controls)}")
        if setting and name not in _EITHER:
            raise ValueError(
                f"{name} is a setting of {', '.join(setting)} and is tried at its default and "
                "tuned values: it cannot be set for all cells"
            )


def _of_heads(grid: Grid, name: str) -> bool:
    section, _, option = name.partition(".")
    if name in _OF_HEADS or section in ("control", "loss"):
        return True
    read = grid.recipe != "synthetic" and grid.features is None
    return section == "data" and read and option not in _NOT_OF_FEATURES


def _of_control(grid: Grid, name: str) -> Mapping[str, object]:
    method = grid.catalogue[name]
    source = grid.catalogue[method.parts_of or name]
    return {**source.default, **source.fixed, **method.fixed}


def _changed(pairs: SyntheticConfig) -> list[str]:
    usual = dataclasses.asdict(SyntheticConfig())
    return [name for name, value in dataclasses.asdict(pairs).items() if value != usual[name]]
