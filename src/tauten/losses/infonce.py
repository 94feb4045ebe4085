"""InfoNCE with a temperature for each anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from tauten.controls import Control
from tauten.losses.base import ContrastiveLoss, Options
from tauten.losses.batch import Batch, Direction, along
from tauten.pairwise import Reduction, Scaled

if TYPE_CHECKING:
    from typing_extensions import Unpack


class InfoNCE(ContrastiveLoss):
    """Softmax cross-entropy of each anchor's positive among all candidates, both ways.

    ℓ_i = ½ [ LSE_j(s_ij/τ_i) − s_ii/τ_i  +  LSE_j(s_ji/τ_i) − s_ii/τ_i ]

    s_ij is the cosine of x_i and y_j; the anchor's τ_i divides its whole row of candidates, in
    both directions. With several positives (``labels=``) s_ii is the mean over them. Oord et al.
    2018; Radford et al. 2021; per-anchor τ as in MM-TS (WACV 2026).

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        force: ``"plain"`` as published, where a low τ_i also multiplies the anchor's gradient by
            1/τ_i; ``"equalized"`` multiplies the anchor's loss by τ_i over its running mean, so
            that τ changes the shape of the force and not its size.
        weight: a control or a number >= 0 that multiplies each anchor's loss.
        directions: ``"both"``, or only ``"x2y"`` or ``"y2x"``.
        normalize: whether rows are scaled to length 1 first.
        tile: ``"auto"``, ``"dense"``, or the size of the engine's tiles.
        reduction: ``"mean"`` or ``"sum"`` over anchors, or ``"none"``.

    Raises:
        ValueError: a temperature that can reach 0 or below, or an unknown option.
    """

    def __init__(self, temperature: Control | float, **options: Unpack[Options]) -> None:
        super().__init__(temperature, **options)

    def _anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        scales = inverse_temperatures(batch, self.strength, directions)
        partitions = batch.reduce(*logits_lse(batch, scales, directions), own=False)
        return [
            partition - batch.positives(d) * scale
            for partition, scale, d in zip(partitions, scales, directions, strict=True)
        ]


def inverse_temperatures(
    batch: Batch, temperature: Control, directions: Sequence[Direction]
) -> list[Tensor]:
    """1/τ of each direction's anchors; one tensor for all where they share τ."""
    if not temperature.needs_index:
        return [1 / batch.values(temperature, directions[0])] * len(directions)
    return [1 / batch.values(temperature, d) for d in directions]


def logits_lse(
    batch: Batch, scales: Sequence[Tensor], directions: Sequence[Direction]
) -> list[Reduction]:
    """Log-sum-exp of the logits of each direction's anchors."""
    numbers = [batch.number(scale, d) for scale, d in zip(scales, directions, strict=True)]
    if len(scales[0]) == 1:
        numbers = [numbers[0]] * len(numbers)
    return [
        Reduction(along(d), "logsumexp", Scaled(), (number,))
        for number, d in zip(numbers, directions, strict=True)
    ]
