"""A tower that is built again from a checkpoint must be the tower that was trained."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from tauten.models.adapters import merged
from tauten.models.saved import one_line
from tauten.models.tower import Description, Tower
from tauten.models.tower_kinds import build_tower


def check_rebuilds(tower: Tower) -> None:
    """Try to build a tower from its description, as a checkpoint will be read.

    Raises:
        ValueError: it cannot be built, or its weights have other names or shapes.
    """
    name = type(getattr(tower, "model", tower)).__name__
    try:
        description = json.loads(json.dumps(tower.describe()))
        again = _built(description)
    except Exception as error:  # models of any kind
        raise ValueError(
            f"{name} cannot be built again from a checkpoint, so that nothing could be done with "
            f"the trained model: {one_line(error)}"
        ) from error
    old, new = (
        {key: value.shape for key, value in merged(t.state_dict(), 1.0).items()}
        for t in (tower, again)
    )
    wrong = sorted(key for key in old | new if old.get(key) != new.get(key))
    if wrong:
        raise ValueError(
            f"{name} is built with other weights from a checkpoint, so that the trained model "
            f"could not be read: {len(wrong)} differ, the first {wrong[0]}"
        )


def _built(description: Description) -> Tower:
    """Build the tower without its numbers, or with random ones where that is impossible."""
    with torch.random.fork_rng():
        try:
            with torch.device("meta"):
                return build_tower(description)
        except Exception:  # models of any kind
            return build_tower(description)


def check_repeats(tower: Tower, first: Tensor, second: Tensor) -> None:
    """Compare two embeddings of one sample, made in evaluation.

    Raises:
        ValueError: they differ by more than rounding.
    """
    if not torch.allclose(first, second, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise ValueError(
            f"{type(getattr(tower, 'model', tower)).__name__} draws at random when it is "
            "evaluated: the same sample has another embedding each time; choose another model"
        )
