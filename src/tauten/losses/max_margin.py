"""Max-margin ranking with a margin for each anchor; given graded relevance, it is MI-MM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from tauten.controls import Control, Direction
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch, along
from tauten.losses.composition import Composition, Refused, check_range
from tauten.losses.equalized_force import Forced
from tauten.losses.keyed import labels_of
from tauten.losses.options import Force, Options, RelationOptions
from tauten.losses.partition import need_negatives
from tauten.losses.queued import Mixed
from tauten.losses.weighting import SizeWeighted
from tauten.pairwise import Active, Hinge, Number, Reduction, combine
from tauten.pairwise.objectives import Hinges
from tauten.relations import Ids
from tauten.spec import Context, ControlSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack


_SHRINKS = Refused("the loss falls as the margin does, so a learned margin only shrinks")
_NO_TARGETS = "a hinge compares each negative with one positive: SMS takes graded relevancies"
_HINGES = Hinges()
_NO_REPULSION = "each negative has a hinge of its own, and its margin is its strength: use SMS"


class MarginLoss(ContrastiveLoss):
    """Base of the losses whose control is a margin, with one positive for each anchor."""

    strength_name = "margin"
    composition = Composition(
        learned=_SHRINKS,
        learned_anchor=_SHRINKS,
        dual=Refused("hinges have no partition, so the robust objective has no gradient for them"),
    )

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Batch:
        if labels_of(relation) is not None:
            raise ValueError(
                f"{type(self).__name__} compares each negative with one positive: pass labels as "
                "same=, which leaves the further positives out"
            )
        return super().batch(x, y, index, **relation)

    def _check_strength(self) -> None:
        check_range(f"{type(self).__name__}'s margin", self.strength, 0.0, strict=False)


class MaxMargin(MarginLoss):
    """Bidirectional max-margin ranking (MI-MM) with the anchor's margin.

    ℓ_i = 1/(2(B−1)) Σ_{j≠i} [m_i − s_ii + s_ij]₊ + [m_i − s_ii + s_ji]₊

    The mean over anchors is the mean over all 2B(B−1) terms without the diagonal, zeros
    included; ignored pairs count as zeros. EPIC-KITCHENS-100 multi-instance retrieval, with
    m_i = 0.2 there and the MM-TS schedule as the margin in MM-TS (WACV 2026). K own negatives
    (``negatives=``) are further terms of their anchor, B − 1 + K in all.

    Args:
        margin: a control or a number >= 0.
        force: ``"plain"`` as published; ``"equalized"`` multiplies each anchor's loss by 1/n_i
            over the running mean of 1/n_i, n_i the number of its violated terms (at least 1), so
            that a larger margin changes which negatives push and not how hard.

    The other arguments are those of :class:`InfoNCE`.

    Raises:
        ValueError: a margin that can fall below 0, or an unknown option.
    """

    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = MarginLoss.composition
    no_targets = _NO_TARGETS
    no_repulsion = _NO_REPULSION
    no_negatives = ""

    def __init__(self, margin: Control | float, **options: Unpack[Options]) -> None:
        super().__init__(margin, **options)

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        *,
        relevance: Tensor | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Tensor:
        """Return the loss of a batch of pairs, with the keywords of
        :meth:`ContrastiveLoss.forward`.

        Args:
            relevance: (N,) in [0, 1], how relevant y[i] is to x[i]; it multiplies the margin of
                both directions (adaptive MI-MM).

        Raises:
            ValueError: also for ``labels=``, since a margin needs one positive per anchor; give
                the other positives as ``ignore=`` or ``same=``.
        """
        return self._reduce(self.batch(x, y, index, relevance=relevance, **relation))

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        *,
        relevance: Tensor | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Batch:
        if relevance is not None and (
            not isinstance(relevance, Tensor)
            or relevance.is_complex()
            or relevance.shape != (len(x),)
            or not bool(((relevance >= 0) & (relevance <= 1)).all())
        ):
            raise ValueError(f"relevance must be ({len(x)},) in [0, 1]")
        batch = super().batch(x, y, index, **relation)
        return batch.each(lambda part: replace(part, relevance=relevance))

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        if batch.relevance is None:
            margins = [batch.strength(self.strength, d) for d in directions]
            both = batch.both(_HINGES, directions, margins)
            if both is not None:
                return [both / (batch.candidates("x2y") - 1)]
        hinges = [
            Reduction.of(along(d), "sum", Hinge(), self._violation(batch, d)) for d in directions
        ]
        sums = batch.reduce(*hinges, own=True)
        losses = []
        for total, d in zip(sums, directions, strict=True):
            terms: Tensor | float = batch.candidates(d) - 1
            if d in batch.hard:
                hard = batch.hard[d]
                violation = batch.at_hard(self._violation(batch, d), d)
                total = total + hard.sum(Hinge().value(hard.similarity, violation))
                terms = (terms + hard.count).clamp(min=1)
            losses.append(total / terms)
        return losses

    def _violation(self, batch: Batch, direction: Direction) -> Number:
        """Return c = m − s_ii as a number of the hinge [s + c]₊."""
        margin = batch.number(batch.strength(self.strength, direction), direction)
        if isinstance(batch.relevance, Tensor):
            relevance = batch.of(batch.relevance, direction)
            margin = combine(torch.mul, margin, batch.number(relevance, direction))
        positives = batch.number(batch.positives(direction), direction)
        return combine(torch.sub, margin, positives)

    @torch.no_grad()
    def _inverse_size(self, batch: Batch, direction: Direction) -> Tensor:
        number = self._violation(batch, direction)
        (active,) = batch.reduce(Reduction.of(along(direction), "sum", Active(), number), own=True)
        if direction in batch.hard:
            hard = batch.hard[direction]
            active = active + hard.sum(
                Active().value(hard.similarity, batch.at_hard(number, direction))
            )
        return 1 / active.clamp(min=1)


@dataclass
class MaxMarginSpec(Mixed, Forced, SizeWeighted):
    """Hinge on the gap between each positive and every negative (max-margin)."""

    kind: ClassVar[str] = "maxmargin"
    title: ClassVar[str] = "MaxMargin"
    strength: ClassVar[Literal["temperature", "margin"]] = "margin"

    adaptive: bool = False
    """with data.relevancy or epic_kitchens: the margin is multiplied by the relevancy of each
    pair"""

    @property
    def relevance(self) -> Literal["none", "positives", "pairs"]:
        return "positives" if self.adaptive else "none"

    def build(self, control: ControlSpec, context: Context) -> MaxMargin:
        return MaxMargin(
            control.build(context),
            **self.keywords(control, context),
        )
