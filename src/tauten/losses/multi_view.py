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
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch
from tauten.losses.composition import ALONE, Refused
from tauten.losses.dcl import DCL
from tauten.losses.dro import DRO
from tauten.losses.options import Across, ReductionMode
from tauten.losses.partition import logits_lse, need_negatives
from tauten.losses.stack import Stack
from tauten.pairwise.engine import Tile
from tauten.pairwise.exchange import several_processes
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
        self,
        views: Sequence[Tensor],
        index: Tensor | None = None,
        *,
        present: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch of samples.

        Args:
            views: at least 2, each (N, d); row i of all shows sample i.
            index: (N,) long, data set positions of the samples. Required by per-sample controls.
            present: (N, M) bool, which views of each sample there are, such as modalities of a
                patient; rows of others may hold anything. A sample with one view is a candidate
                of others alone. All are there when not given.

        Returns:
            A scalar; (N,) with ``reduction="none"``, 0 for a sample with fewer than 2 views.

        Raises:
            ValueError: fewer than 2 views, views that differ in shape, fewer than 2 samples over
                all processes, no sample with 2 views.
            NonFiniteLossError: an embedding or the loss is NaN or infinite.
        """
        return self._reduce(self._stacked(views, index, present))

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        if batch.stack is None:
            raise ValueError(f"{type(self).__name__} takes a list of views: loss_fn([x, y, ...])")
        scale = 1 / batch.values(self.strength, "x2y")
        loss, paired = self.of_samples(batch, batch.stack, scale), batch.stack.paired
        return [batch.stack.of_rows(loss if paired is None else loss.masked_fill(~paired, 0.0))]

    def of_samples(self, batch: Batch, stack: Stack, scale: Tensor) -> Tensor:
        """Return (N,) the loss of each sample, of those with fewer than two views any number.

        Args:
            batch: whose x are the views, one after the other.
            stack: which row is which view of which sample.
            scale: 1/τ of each row of x, or () of all.
        """
        raise NotImplementedError

    def sides(self, batch: Batch) -> list[Tensor]:
        """Return the loss of each sample that has two views, weighted; (N,) of all for "none"."""
        (part,) = super().sides(batch)
        assert batch.stack is not None
        part, paired = batch.stack.of_samples(part), batch.stack.paired
        return [part if paired is None or self.reduction == "none" else part[paired]]

    def _stacked(
        self, views: Sequence[Tensor], index: Tensor | None, present: Tensor | None
    ) -> Batch:
        name = type(self).__name__
        listed = [views] if isinstance(views, Tensor) else list(views)
        shapes = [tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for v in listed]
        if len(shapes) < 2 or len(set(shapes)) > 1:
            raise ValueError(
                f"{name} takes a list of at least 2 views, each (N, d) with sample i in row i, got "
                f"{shapes}"
            )
        size, count = len(listed[0]), len(listed)
        if index is not None and len(check_index(index)) != size:
            raise ValueError(f"index must name every sample, {size} in each view, got {len(index)}")
        alone = self.ranks == "local" or not several_processes()
        if present is not None:
            present = _checked(present, (size, count)).to(listed[0].device).T
            if alone and not bool((present.sum(0) > 1).any()):
                raise ValueError(f"{name} needs a sample with two views, and present= has none")
        stack = Stack(count, size, present)
        x = stack.rows(listed)
        ids = None if index is None else stack.rows([index] * count)
        # who is positive does not matter: all candidates are summed
        if present is None:
            rows = torch.arange(len(x), device=x.device)
            batch = super().batch(x, None, ids, positives=rows.roll(size))
        else:
            batch = super().batch(x, None, ids, labels=x.new_zeros(len(x), dtype=torch.int64))
        if batch.candidates("x2y") < (2 * count - 1 if present is None else 2):
            raise ValueError(f"{name} needs at least 2 samples in a batch, got 1")
        return replace(batch, stack=stack)


def _checked(present: Tensor, shape: tuple[int, int]) -> Tensor:
    if not isinstance(present, Tensor) or present.dtype != torch.bool or present.shape != shape:
        got = type(present).__name__
        if isinstance(present, Tensor):
            got = f"{tuple(present.shape)} of {present.dtype}"
        raise ValueError(f"present must be (N, M) = {shape} of torch.bool, got {got}")
    return present


def _shared(stack: Stack, scale: Tensor) -> Tensor:
    """Return numbers of the rows of x, (R,) or (), as numbers of the samples, (N,) or ()."""
    return stack.of_samples(scale) if scale.dim() else scale


def _together(batch: Batch, stack: Stack, scale: Tensor) -> Tensor:
    """Return (N,) log-sum-exp over the pairs l < k of a sample's own views."""
    views, scale = stack.spread(batch.x, 0.0).unbind(), _shared(stack, scale)
    rows = torch.arange(stack.samples, device=batch.x.device)
    logits = []
    for a, b in combinations(range(stack.views), 2):
        logit = pair_similarity(views[a], views[b], rows, cosine=batch.cosine) * scale
        lacking = stack.lacking(a, b)
        logits.append(logit if lacking is None else logit.masked_fill(lacking, -torch.inf))
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

    def of_samples(self, batch: Batch, stack: Stack, scale: Tensor) -> Tensor:
        (partition,) = logits_lse(batch, [scale], ["x2y"], own=False)
        whole = stack.spread(partition, -torch.inf)
        if stack.paired is not None:
            whole = whole.masked_fill(~stack.paired, 0.0)
        # each pair counts in both orders
        return whole.logsumexp(0) - _together(batch, stack, scale) - math.log(2)


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

    def of_samples(self, batch: Batch, stack: Stack, scale: Tensor) -> Tensor:
        loss = -_together(batch, stack, scale)
        scales = stack.each(stack.of_rows(_shared(stack, scale))) if scale.dim() else None
        views, ids = stack.each(batch.x), stack.each(batch.ids["x2y"])
        for at in _met(batch, stack):
            frame = replace(self.batch(views[at], views[at], ids[at]), trusting=batch.trusting)
            if stack.present is None:
                need_negatives(self, frame, ["x2y"])
            scale_of_view = scale if scales is None else scales[at]
            (partition,) = logits_lse(frame, [scale_of_view], ["x2y"], own=True)
            loss = loss + stack.placed(at, partition)
        return loss


def _met(batch: Batch, stack: Stack) -> list[int]:
    """Return the views of which a sample is present, on any process."""
    if stack.present is None:
        return list(range(stack.views))
    counts = stack.present.sum(1)
    if batch.ranks is not None:
        counts = batch.ranks.sum_(counts)
    return [at for at, count in enumerate(counts.tolist()) if count]
