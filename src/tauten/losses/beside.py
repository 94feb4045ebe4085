"""Further things that a call says of its pairs: targets, weights of negatives, own negatives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from tauten.candidates.own import OwnNegatives, as_negatives
from tauten.controls import Direction
from tauten.losses.hard import HardNegatives
from tauten.pairwise.exchange import several_processes
from tauten.pairwise.sides import within_range
from tauten.relations import Given, PairWeights, as_weights

if TYPE_CHECKING:
    from tauten.losses.base import ContrastiveLoss

#: keywords of a call that a loss must say it uses
KEYWORDS = ("targets", "repulsion", "negatives")


@dataclass(frozen=True)
class Beside:
    """Further words of a call about its pairs, beside who is positive and who is left out.

    Attributes:
        targets: of the anchors, in the place of one positive each.
        repulsion: weight of each negative in the denominator.
        negatives: each anchor's own negatives.
    """

    targets: PairWeights | None = None
    repulsion: PairWeights | None = None
    negatives: OwnNegatives | None = None

    def __bool__(self) -> bool:
        return any(getattr(self, name) is not None for name in KEYWORDS)

    @property
    def whole(self) -> bool:
        """True where targets say all, so that positives need not be known."""
        return self.targets is not None and self.targets.share == 1

    def of_keys(self, side: Direction, anchors: int) -> Beside:
        """Return the same for one side's anchors, which meet keys of the other in rows of S."""
        at = 0 if side == "x2y" else 1
        parts = {
            name: None if given is None else given.of_keys(anchors)[at]
            for name, given in (("targets", self.targets), ("repulsion", self.repulsion))
        }
        negatives = self.negatives
        if negatives is not None:
            negatives = negatives.alone(side)
        return Beside(**parts, negatives=negatives)


def taken(loss_fn: ContrastiveLoss, relation: dict[str, Any]) -> Beside:
    """Take the keywords out of a call's that say more of its pairs, all checked.

    Raises:
        ValueError: one that the loss does not use, with the reason, or of a wrong kind.
    """
    given = {name: relation.pop(name, None) for name in KEYWORDS}
    for name, value in given.items():
        reason = getattr(loss_fn, f"no_{name}")
        if value is not None and reason:
            raise ValueError(f"{type(loss_fn).__name__} takes no {name}=: {reason}")
    weights = {
        name: None if given[name] is None else as_weights(name, given[name])
        for name in ("targets", "repulsion")
    }
    targets, repulsion = weights["targets"], weights["repulsion"]
    if targets is not None and targets.share == 0:
        targets = None  # ALBEF's share at the start: the loss as it is without
    if repulsion is not None and repulsion.share != 1:
        raise ValueError(
            f"repulsion= weighs each negative, so its share must be 1, got {repulsion.share:g}"
        )
    negatives = None if given["negatives"] is None else as_negatives(given["negatives"])
    beside = Beside(targets, repulsion, negatives)
    loss_fn.check_beside(beside)
    return beside


def check_with_keys(loss_fn: ContrastiveLoss, beside: Beside) -> None:
    """Refuse a matrix of weights where keys lie on several processes."""
    across = loss_fn.ranks != "local" and several_processes()
    for name in ("targets", "repulsion"):
        if across and isinstance(getattr(beside, name), Given):
            raise ValueError(
                f"{name}= of keys on several processes must be made from what each knows, such as "
                "Teacher, Kernel or Codes, and not a matrix"
            )


def hard_negatives(
    beside: Beside, anchors: Mapping[Direction, Tensor], *, directions: str, cosine: bool
) -> dict[Direction, HardNegatives]:
    """Return for each direction the own negatives of its anchors.

    Args:
        beside: further keywords of the call.
        anchors: (n, d) of each direction.
        directions: directions of the loss in this batch.
        cosine: whether similarities are cosines.

    Raises:
        ValueError: shapes that do not fit the anchors, or negatives of what is no anchor.
    """
    negatives = beside.negatives
    of_sides: dict[Direction, HardNegatives] = {}
    if negatives is None:
        return of_sides
    for d, name, vectors, missing in (
        ("x2y", "x", negatives.for_x, negatives.missing_x),
        ("y2x", "y", negatives.for_y, negatives.missing_y),
    ):
        if vectors is None:
            continue
        rows = anchors[cast(Direction, d)]
        if directions not in ("both", d):
            raise ValueError(
                f"negatives= are for anchors of {name}, and directions={directions!r} has none: "
                "give (of x, of y), with None for the side that has no anchors"
            )
        if vectors.shape[0] != len(rows) or vectors.shape[2] != rows.shape[1]:
            raise ValueError(
                f"negatives= of {name} must be ({len(rows)}, K, {rows.shape[1]}), K for each row, "
                f"got {tuple(vectors.shape)}"
            )
        if vectors.device != rows.device:
            raise ValueError(
                f"{name} is on {rows.device} and its negatives= on {vectors.device}: move one"
            )
        gone = None if missing is None else missing.to(rows.device)
        if gone is not None:
            vectors = vectors.where(~gone.unsqueeze(2), torch.zeros_like(vectors))
        flat = vectors.reshape(-1, vectors.shape[2])
        scaled = (within_range(flat) if cosine else flat).view(vectors.shape)
        of_sides[cast(Direction, d)] = HardNegatives(rows, scaled, gone, cosine)
    return of_sides
