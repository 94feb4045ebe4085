"""Supervised contrast of samples whose labels are numbers (SupReMix)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor

from tauten.candidates.label_mixing import LabelMixtures, numbers_of
from tauten.candidates.own import OwnNegatives
from tauten.checks import few, flag
from tauten.controls import Control, Direction
from tauten.losses.batch import Batch
from tauten.losses.dro import DRO
from tauten.losses.options import Across, Force, ReductionMode
from tauten.losses.partition import logits_lse
from tauten.losses.supcon import SupCon
from tauten.pairwise.engine import Tile
from tauten.relations import Ids, PairWeights
from tauten.relations.checks import WithoutPositiveError

if TYPE_CHECKING:
    from typing_extensions import Unpack


class OneSetOptions(TypedDict, total=False):
    """Keywords of a loss of one set of embeddings; :class:`InfoNCE` says what they mean."""

    force: Force
    weight: Control | float | None
    tile: Tile
    reduction: ReductionMode | DRO
    ranks: Across


class SupReMix(SupCon):
    """Each sample against those of its label, with mixtures: ``loss_fn(z, labels, mixtures)``.

    ℓ_i = −1/|P_i| Σ_{p∈P_i} log( e^{s_ip/τ_i} / Σ_{a≠i} (|y_i − y_a| + 1)·e^{s_ia/τ_i} )

    P_i are the samples with the label of i, such as its other view, and its positive mixtures; a
    are all samples, and the mixtures of i. Far labels are pushed harder. Without mixtures and
    weights it is :class:`SupCon`. "Mixup Your Own Pairs" (Wu et al. 2023), which divides by
    |P_i| + 1 where it counts one mixture; its public code has both directions of the weight.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        weighted: whether the distance of labels weighs candidates.

    The other arguments are those of :class:`InfoNCE` for one set of embeddings.

    Raises:
        ValueError: a temperature that can reach 0 or below, one of pairs, or one that is learned by
            the robust objective.
    """

    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = SupCon.composition
    no_keys = "mixtures are of the batch"
    no_repulsion = ""
    no_negatives = ""
    no_targets = SupCon.no_targets

    def __init__(
        self,
        temperature: Control | float,
        *,
        weighted: bool = True,
        **options: Unpack[OneSetOptions],
    ) -> None:
        super().__init__(temperature, directions="x2y", **options)
        self.weighted = flag("weighted", weighted)

    def forward(  # type: ignore[override]
        self,
        z: Tensor,
        labels: Tensor,
        mixtures: LabelMixtures | None = None,
        index: Ids | None = None,
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            z: (N, d); two views of a sample are two rows of one label.
            labels: (N,) numbers.
            mixtures: mixtures of :class:`~tauten.candidates.LabelMixer`.
            index: (N,) long, data set positions. Required by per-sample controls.

        Raises:
            ValueError: shapes that do not fit, or a label that only one row has.
        """
        y = numbers_of(labels, len(z)).to(z.device, torch.float64)
        codes = (y + 0.0).view(torch.int64)  # equal numbers have equal bits, −0 and 0 too
        try:
            batch = self.batch(
                z,
                None,
                index,
                labels=codes,
                repulsion=PairWeights(y, y, _apart) if self.weighted else None,
                negatives=None
                if mixtures is None
                else OwnNegatives(mixtures.vectors, missing_x=mixtures.missing),
            )
        except WithoutPositiveError as error:
            raise ValueError(
                f"labels {few(y[error.rows].unique().tolist())} have no positive but one row each, "
                f"{few(error.rows)}: give two views of each sample, or leave these rows out of the "
                "batch"
            ) from None
        if mixtures is not None:
            far = (y[:, None] - mixtures.labels.to(y)).abs() * self.weighted
            positive = mixtures.positive.to(z.device)
            batch = replace(batch, relevance=torch.cat([far, 0 * far + positive], dim=1))
        return self._reduce(batch)

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        (d,) = directions
        scales = batch.scales(self.strength, directions)
        total, count = batch.positives(d) * batch.positive_counts(d), batch.positive_counts(d)
        scale = scales[0]
        assert isinstance(scale, Tensor)
        if d in batch.hard:
            hard, facts = batch.hard[d], batch.relevance
            assert isinstance(facts, Tensor)
            far, positive = facts.to(batch.dtype).chunk(2, dim=1)
            if hard.missing is not None:
                positive = positive.masked_fill(hard.missing, 0.0)
            total = total + (positive * hard.similarity).sum(1)
            count = count + positive.sum(1)
            # weights are offsets of the logits
            wide = scale.unsqueeze(1) if scale.dim() else scale
            weighed = replace(hard, given=hard.similarity + (far + 1).log() / wide)
            batch = replace(batch, hard={d: weighed})
        (partition,) = logits_lse(batch, scales, directions, own=False)
        return [partition - total / count * scale]


def _apart(rows: Tensor, cols: Tensor) -> Tensor:
    return (rows[:, None] - cols).abs() + 1
