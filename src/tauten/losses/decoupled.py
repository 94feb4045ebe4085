"""Softmax in which positives of one anchor do not compete (DEXML)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.controls import Control, Direction, as_control
from tauten.losses.base import ContrastiveLoss, Force, Options
from tauten.losses.batch import Batch, along
from tauten.losses.composition import MARGIN, Composition, Refused, check_composition, check_range
from tauten.losses.partition import logits_lse
from tauten.losses.queued import Queued
from tauten.losses.weighting import Weighted
from tauten.pairwise import Reduction, Softplus, combine
from tauten.pairwise.numbers import reciprocals
from tauten.pairwise.terms import LOST
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack


class DecoupledSoftmax(ContrastiveLoss):
    """Cross-entropy of each positive against the negatives alone (Gupta et al., ICLR 2024).

    ℓ_i = 1/|P(i)| Σ_{p∈P(i)} −log[ exp((s_ip − m_i)/τ_i)
    / ( exp((s_ip − m_i)/τ_i) + Σ_{n∉P(i)} exp(s_in/τ_i) ) ]

    With several positives (``labels=``) they do not repel each other, as they do in the
    denominator of :class:`SupCon`. With one it is :class:`InfoNCE`. An anchor without a negative
    contributes 0. DEXML, "Dual-Encoders for Extreme Multi-Label Classification".

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        margin: a control or a number m_i in units of s, by which each positive must win.

    The other arguments are those of :class:`InfoNCE`.

    Raises:
        ValueError: a temperature that can reach 0 or below, or one of the robust objective.
    """

    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = Composition(
        dual=Refused("each positive has a partition of its own, and an anchor one temperature")
    )

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

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        scales = reciprocals([batch.strength(self.strength, d) for d in directions])
        partitions = logits_lse(batch, scales, directions, own=True)
        alone = [
            batch.without_anchor(torch.isneginf(part), d)
            for part, d in zip(partitions, directions, strict=True)
        ]
        offsets = []
        for partition, scale, empty, d in zip(partitions, scales, alone, directions, strict=True):
            offset = partition.masked_fill(empty, 0.0)
            if self.margin is not None:
                offset = offset + batch.values(self.margin, d) * batch.at_positives(scale, d)
            offsets.append(offset)
        if batch.relation.labels is None:
            losses = [
                F.softplus(
                    offset - batch.positives(d) * batch.at_positives(scale, d), threshold=LOST
                )
                for offset, scale, d in zip(offsets, scales, directions, strict=True)
            ]
        else:
            sums = batch.over_positives(
                *(
                    Reduction.of(
                        along(d),
                        "sum",
                        Softplus(),
                        combine(torch.neg, batch.number(scale, d)),
                        batch.number(offset, d),
                    )
                    for offset, scale, d in zip(offsets, scales, directions, strict=True)
                )
            )
            losses = [
                total / torch.as_tensor(batch.positive_counts(d)).to(total).clamp(min=1)
                for total, d in zip(sums, directions, strict=True)
            ]
        return [loss.masked_fill(out, 0.0) for loss, out in zip(losses, alone, strict=True)]


@dataclass
class DecoupledSpec(Queued, Weighted):
    """Softmax in which positives of one anchor do not compete (decoupled softmax, DEXML)."""

    kind: ClassVar[str] = "decoupled"
    title: ClassVar[str] = "decoupled softmax"
    views: ClassVar[bool] = True

    force: Literal["plain", "equalized"] = "plain"
    """plain: as published; equalized: the control changes the shape of the force, not its size"""
    margin: Annotated[float, Range(-2.0, 2.0)] = 0.0
    """by how much the cosine of a positive must win"""

    def build(self, control: ControlSpec, context: Context) -> DecoupledSoftmax:
        return DecoupledSoftmax(
            control.build(context),
            force=self.force,
            margin=self.margin,
            **self.directions(context),
            **self.weighting(control, context),
        )
