"""Keywords that losses take, and what each of them may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from torch import Tensor

from tauten.candidates.keys import Keys
from tauten.candidates.own import Negatives
from tauten.controls import Control
from tauten.losses.dro import DRO
from tauten.pairwise.engine import Tile
from tauten.relations import Ids, Weights

Force = Literal["plain", "equalized", "reweighted"]
Directions = Literal["both", "x2y", "y2x"]
ReductionMode = Literal["mean", "sum", "none"]
Across = Literal["auto", "gather", "ring", "local"]


class SharedOptions(TypedDict, total=False):
    """Keywords that every loss takes; :class:`InfoNCE` says what they mean."""

    weight: Control | float | None
    directions: Directions
    normalize: bool
    tile: Tile
    reduction: ReductionMode | DRO
    ranks: Across


class Options(SharedOptions, total=False):
    """Keywords of losses whose force can be equalized."""

    force: Force


class RelationOptions(TypedDict, total=False):
    """Keywords that say who is positive and who is left out, as in ``ContrastiveLoss.forward``."""

    positives: Tensor | None
    labels: Ids | None
    same: Tensor | Sequence[Ids]
    ignore: Tensor | None
    keys: Keys | None
    targets: Weights | None
    repulsion: Weights | None
    negatives: Negatives | None


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> str:
    """Return a value that must be one of these."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}, got {value!r}")
    return value
