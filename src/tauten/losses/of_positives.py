"""Losses that judge each positive by a logistic function, and the margin that it must win by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.controls import Control, Direction, as_control
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch, along
from tauten.losses.composition import MARGIN, check_composition, check_range
from tauten.losses.options import Options
from tauten.pairwise import Number, Reduction, Softplus, combine
from tauten.pairwise.terms import LOST

if TYPE_CHECKING:
    from typing_extensions import Unpack


def mean_logistic(
    batch: Batch,
    slopes: Sequence[Number],
    offsets: Sequence[Tensor],
    directions: Sequence[Direction],
) -> list[Tensor]:
    """Return (n,) mean over an anchor's positives p of log(1 + exp(offset − s_p·slope)).

    Args:
        batch: the checked batch.
        slopes: slopes of each direction, of its anchors or pairs.
        offsets: (n,) of each direction.
        directions: directions of the anchors.
    """
    if batch.relation.labels is None:
        return [
            F.softplus(offset - batch.positives(d) * batch.at_positives(slope, d), threshold=LOST)
            for slope, offset, d in zip(slopes, offsets, directions, strict=True)
        ]
    sums = batch.over_positives(
        *(
            Reduction.of(
                along(d),
                "sum",
                Softplus(),
                combine(torch.neg, batch.number(slope, d)),
                batch.number(offset, d),
            )
            for slope, offset, d in zip(slopes, offsets, directions, strict=True)
        )
    )
    return [
        total / batch.positive_counts(d).clamp(min=1)
        for total, d in zip(sums, directions, strict=True)
    ]


class WithMargin(ContrastiveLoss):
    """Base of the losses whose positives must win by a margin m_i, in units of s."""

    def __init__(
        self,
        temperature: Control | float,
        *,
        margin: Control | float | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(temperature, **options)
        margin = None if margin is None else as_control(margin)
        self.margin = None if margin is None or margin.fixed == 0 else margin
        if self.margin is not None:
            name = type(self).__name__
            check_range(f"{name}'s margin", self.margin, -float("inf"), strict=False)
            check_composition(name, "margin", self.margin, MARGIN, cosine=self.normalize)
            self._use_controls()

    def margins(self, batch: Batch, scale: Number, direction: Direction) -> Tensor | float:
        """Return m_i/τ_i of the anchors of a direction, given 1/τ."""
        if self.margin is None:
            return 0.0
        return batch.values(self.margin, direction) * batch.at_positives(scale, direction)
