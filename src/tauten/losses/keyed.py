"""Anchors of both sides and the keys that they meet in the place of the other side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tauten.candidates.keys import Keys
from tauten.controls.anchors import DIRECTIONS, Direction
from tauten.ids import check_index
from tauten.reads import ask
from tauten.relations import Ids

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss

#: whose anchors, they, their candidates, and the ids of both
Met = tuple[Direction, Tensor, Tensor, tuple[Tensor, Tensor]]


def met(
    loss_fn: ContrastiveLoss,
    keys: Keys,
    x: Tensor,
    y: Tensor | None,
    index: Ids | None,
    relation: Mapping[str, Any],
) -> list[Met]:
    """Return for each direction of a loss its anchors and what they meet.

    Args:
        loss_fn: the loss that was called with ``keys=``.
        keys: its ``keys=``.
        x: (N, d).
        y: (N, d).
        index: as the loss was given it.
        relation: the other keywords of the relation.

    Raises:
        ValueError: a loss that takes no keys, shapes that do not fit, or relations beside that of
            the keys.
    """
    name = type(loss_fn).__name__
    if loss_fn.no_keys:
        raise ValueError(f"{name} takes no keys=: {loss_fn.no_keys}")
    if not isinstance(keys, Keys):
        raise TypeError(f"keys must be tauten.candidates.Keys, got {type(keys).__name__}")
    if not isinstance(y, Tensor):
        raise ValueError("keys= are of two sides: pass x and y")
    given = [n for n in ("positives", "labels", "ignore") if relation.get(n) is not None]
    given += ["same"] if len(relation.get("same", ())) else []
    if given:
        raise ValueError(
            f"keys= bring their ids with them: leave {given[0]}= out and give Keys(same=, labels=) "
            "those of all keys, the batch's first"
        )
    rows = len(x)
    if len(y) != rows or len(keys) < rows:
        raise ValueError(
            "keys= need x and y of one length, and first a key for each pair, got "
            f"{rows} and {len(y)} rows and {len(keys)} keys"
        )
    if index is not None:
        _check_own(keys, rows, index)
    of_x, of_y = keys.ids("x2y"), keys.ids("y2x")
    both: list[Met] = [
        ("x2y", x, keys.y, (of_x[:rows], of_y)),
        ("y2x", y, keys.x, (of_y[:rows], of_x)),
    ]
    return [sides for sides in both if loss_fn.directions in ("both", sides[0])]


def _check_own(keys: Keys, rows: int, index: Ids) -> None:
    """Refuse ids of a batch that are not those of its keys."""
    sides = index if isinstance(index, (tuple, list)) else (index, index)
    for direction, side in zip(DIRECTIONS, sides, strict=True):
        ids = keys.ids(direction)[:rows]
        side = check_index(side).to(ids.device)
        if side.shape != ids.shape:
            _refuse_own(True)
        ask((side != ids.long()).any(), _refuse_own)


def _refuse_own(differ: bool) -> None:
    if differ:
        raise ValueError(
            "index= must be that of the batch's keys, which are the first: leave it out with keys="
        )


def labels_of(relation: Mapping[str, Any]) -> Any:
    """Return the labels among the keywords of a relation, its own or those of its keys."""
    labels, keys = relation.get("labels"), relation.get("keys")
    return keys.labels if labels is None and isinstance(keys, Keys) else labels
