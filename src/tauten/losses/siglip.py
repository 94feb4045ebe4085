"""Sigmoid loss of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.controls import Control, as_control
from tauten.losses.base import ContrastiveLoss, Options, check_range
from tauten.losses.batch import Batch, Direction, along
from tauten.losses.infonce import inverse_temperatures
from tauten.pairwise import Reduction, Softplus

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SigLIP(ContrastiveLoss):
    """Each pair is classified on its own as matching or not (Zhai et al., ICCV 2023).

    ℓ_i = ½ Σ_j softplus(−z_ij·(s_ij/τ_i + b_i)) + ½ Σ_j softplus(−z_ji·(s_ji/τ_i + b_i))

    with z = 1 for positives and −1 otherwise. A pair belongs to two anchors and takes half its
    loss with the temperature of each; with one τ for all, the mean over anchors is the published
    loss.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        bias: a control or a number, usually negative; published: learned, −10 at the start, with
            τ learned from 0.1.

    The other arguments are those of :class:`InfoNCE`.

    Raises:
        ValueError: a temperature that can reach 0 or below, or an unknown option.
    """

    def __init__(
        self,
        temperature: Control | float,
        bias: Control | float = -10.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(temperature, **options)
        self.bias = as_control(bias)
        check_range("SigLIP's bias", self.bias, -float("inf"), strict=False)

    def _anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        scales = inverse_temperatures(batch, self.strength, directions)
        biases = [batch.values(self.bias, d) for d in directions]
        numbers = [
            (batch.number(scale, d), batch.number(bias, d))
            for scale, bias, d in zip(scales, biases, directions, strict=True)
        ]
        if not (self.strength.needs_index or self.bias.needs_index):
            numbers = [numbers[0]] * len(numbers)
        sums = batch.reduce(
            *(
                Reduction(along(d), "sum", Softplus(), pair)
                for pair, d in zip(numbers, directions, strict=True)
            ),
            own=False,
        )
        counts = dict(zip(("x2y", "y2x"), batch.relation.counts(), strict=True))
        return [
            total - torch.as_tensor(counts[d]).to(total) * (batch.positives(d) * scale + bias)
            for total, scale, bias, d in zip(sums, scales, biases, directions, strict=True)
        ]
