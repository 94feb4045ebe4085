"""One loss for each sample over all pairs of its views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor

from tauten.controls import Control, Direction
from tauten.ids import check_index
from tauten.losses.base import Across, ContrastiveLoss, ReductionMode
from tauten.losses.batch import Batch
from tauten.losses.composition import ALONE, Refused
from tauten.losses.dcl import DCL
from tauten.losses.dro import DRO
from tauten.losses.partition import logits_lse, need_negatives
from tauten.pairwise.engine import Tile
from tauten.pairwise.sides import pair_similarity

if TYPE_CHECKING:
    from typing_extensions import Unpack

_ONE_TAU = Refused("a sample has one temperature for all pairs of its views")


class ViewOptions(TypedDict, total=False):
    """Keywords of losses over views; :class:`InfoNCE` says what they mean."""

    weight: Control | float | None
    normalize: bool
    tile: Tile
    reduction: ReductionMode | DRO
    ranks: Across


class MultiView(ContrastiveLoss):
    """Base of the losses ``loss_fn([view_1, ..., view_M], index)``; a subclass gives the loss."""

    def __init__(self, temperature: Control | float, **options: Unpack[ViewOptions]) -> None:
        super().__init__(temperature, directions="x2y", **options)

    def forward(  # type: ignore[override]
        self, views: Sequence[Tensor], index: Tensor | None = None
    ) -> Tensor:
        """Return the loss of a batch of samples.

        Args:
            views: at least 2, each (N, d); row i of all shows sample i.
            index: (N,) long, data set positions of the samples. Required by per-sample controls.

        Returns:
            A scalar; (N,) with ``reduction="none"``.

        Raises:
            ValueError: fewer than 2 views, views that differ in shape, fewer than 2 samples over
                all processes.
            NonFiniteLossError: an embedding or the loss is NaN or infinite.
        """
        return self._reduce(self._stacked(views, index))

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        if batch.blocks < 2:
            raise ValueError(f"{type(self).__name__} takes a list of views: loss_fn([x, y, ...])")
        scale = 1 / batch.values(self.strength, "x2y")
        return [self.of_samples(batch, scale).repeat(batch.blocks)]

    def of_samples(self, batch: Batch, scale: Tensor) -> Tensor:
        """Return (N,) the loss of each sample.

        Args:
            batch: whose x are the views, one after the other.
            scale: 1/τ of each row of x, or () of all.
        """
        raise NotImplementedError

    def sides(self, batch: Batch) -> list[Tensor]:
        """Return the loss of each sample, (N,), weighted."""
        return [part[: len(part) // batch.blocks] for part in super().sides(batch)]

    def _stacked(self, views: Sequence[Tensor], index: Tensor | None) -> Batch:
        name = type(self).__name__
        listed = [views] if isinstance(views, Tensor) else list(views)
        shapes = [tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for v in listed]
        if len(shapes) < 2 or len(set(shapes)) > 1:
            raise ValueError(
                f"{name} takes a list of at least 2 views, each (N, d) with sample i in row i, got "
                f"{shapes}"
            )
        if index is not None and len(check_index(index)) != len(listed[0]):
            raise ValueError(
                f"index must name every sample, {len(listed[0])} in each view, got {len(index)}"
            )
        x = torch.cat(listed)
        rows = torch.arange(len(x), device=x.device)
        ids = None if index is None else index.repeat(len(listed))
        batch = super().batch(x, None, ids, positives=rows.roll(len(listed[0])))
        if batch.candidates("x2y") < 2 * len(listed) - 1:
            raise ValueError(f"{name} needs at least 2 samples in a batch, got 1")
        return replace(batch, blocks=len(listed))


def _views(batch: Batch) -> tuple[Tensor, ...]:
    """Return M times (N, d)."""
    rows, dim = batch.x.shape
    return batch.x.reshape(batch.blocks, rows // batch.blocks, dim).unbind()


def _of_samples(scale: Tensor, batch: Batch) -> Tensor:
    """Return numbers of the rows of x, (M·N,) or (), as numbers of the samples, (N,) or ()."""
    return scale[: len(scale) // batch.blocks] if scale.dim() else scale


def _together(batch: Batch, scale: Tensor) -> Tensor:
    """Return (N,) log-sum-exp over the pairs l < k of a sample's own views."""
    views, scale = _views(batch), _of_samples(scale, batch)
    rows = torch.arange(len(views[0]), device=batch.x.device)
    logits = [
        pair_similarity(a, b, rows, cosine=batch.cosine) * scale for a, b in combinations(views, 2)
    ]
    return torch.stack(logits).logsumexp(0)


class MVInfoNCE(MultiView):
    """InfoNCE over all pairs of M views.

    ℓ_i = log Σ_l Σ_{(k,j)≠(l,i)} exp(s_ij^lk/τ_i) − log Σ_{l≠k} exp(s_ii^lk/τ_i)

    s_ij^lk is the cosine of sample i in view l and sample j in view k; a view is an augmentation or
    a modality. Koromilas et al. 2025, "A Principled Framework for Multi-View Contrastive Learning".

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.

    The other arguments are those of :class:`InfoNCE`, without ``directions`` and ``force``.

    Raises:
        ValueError: a temperature that can reach 0 or below, one of pairs, or one of the robust
            objective.
    """

    composition = replace(ALONE, pair=_ONE_TAU)

    def of_samples(self, batch: Batch, scale: Tensor) -> Tensor:
        (partition,) = logits_lse(batch, [scale], ["x2y"], own=False)
        whole = partition.reshape(batch.blocks, len(partition) // batch.blocks).logsumexp(0)
        # each pair counts in both orders
        return whole - _together(batch, scale) - math.log(2)


class MVDHEL(MultiView):
    """Alignment over all pairs of M views, and uniformity inside each, decoupled.

    ℓ_i = Σ_l LSE_{j≠i}(s_ij^ll/τ_i) − log Σ_{l<k} exp(s_ii^lk/τ_i)

    s_ij^lk is the cosine of sample i in view l and sample j in view k. With two views it is DHEL.
    Koromilas et al. 2025, "A Principled Framework for Multi-View Contrastive Learning".

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.

    The other arguments are those of :class:`InfoNCE`, without ``directions`` and ``force``.

    Raises:
        ValueError: a temperature that can reach 0 or below, one of pairs, or a learned one.
    """

    composition = replace(DCL.composition, dual=ALONE.dual, pair=_ONE_TAU)

    def of_samples(self, batch: Batch, scale: Tensor) -> Tensor:
        loss, scale_of_sample = -_together(batch, scale), _of_samples(scale, batch)
        ids = _of_samples(batch.ids["x2y"], batch)
        for view in _views(batch):
            frame = replace(self.batch(view, view, ids), trusting=batch.trusting)
            need_negatives(self, frame, ["x2y"])
            (partition,) = logits_lse(frame, [scale_of_sample], ["x2y"], own=True)
            loss = loss + partition
        return loss
