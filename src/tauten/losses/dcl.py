"""Decoupled contrastive loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tauten.losses.batch import Batch, Direction
from tauten.losses.infonce import InfoNCE, inverse_temperatures, logits_lse


class DCL(InfoNCE):
    """InfoNCE without the positive in the denominator, so that attraction never fades.

    ℓ_i = ½ [ LSE_{j≠i}(s_ij/τ_i) + LSE_{j≠i}(s_ji/τ_i) ] − s_ii/τ_i

    Yeh et al., ECCV 2022, between the two sides. An anchor whose candidates are all ignored or
    positive contributes 0. Arguments as for :class:`InfoNCE`.

    A temperature learned by the gradient of this loss has no lower bound once pairs are
    separated: bound it (``Learnable(low=...)`` does).
    """

    def _anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        scales = inverse_temperatures(batch, self.strength, directions)
        partitions = batch.reduce(*logits_lse(batch, scales, directions), own=True)
        losses = []
        for partition, scale, d in zip(partitions, scales, directions, strict=True):
            alone = torch.isneginf(partition)
            loss = partition.masked_fill(alone, 0.0) - batch.positives(d) * scale
            losses.append(loss.masked_fill(alone, 0.0))
        return losses


def need_negatives(loss: object, batch: Batch, directions: Sequence[Direction]) -> None:
    """Refuse a batch in which an anchor has no candidate besides its positive."""
    if min(batch.candidates(d) for d in directions) < 2:
        raise ValueError(
            f"{type(loss).__name__} needs at least 2 pairs in a batch for a negative, "
            f"got {len(batch.x)} and {len(batch.y)} rows; drop the last incomplete batch"
        )
