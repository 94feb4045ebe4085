"""The losses over several views for two: the two sides of a pair, or two views of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from tauten.controls import Control, Direction
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch
from tauten.losses.multi_view import MVDHEL, MVInfoNCE, ViewOptions
from tauten.losses.options import RelationOptions
from tauten.losses.partition import need_negatives
from tauten.losses.weighting import Weighted
from tauten.pairwise import PairMask, Reduction, Scaled
from tauten.pairwise.engine import reduce_pairs
from tauten.pairwise.sides import within_range
from tauten.relations import Ids
from tauten.spec import Context, ControlSpec

if TYPE_CHECKING:
    from typing_extensions import Unpack


class OfTwoSides(ContrastiveLoss):
    """Base of the losses that give each pair one number, of pairs across and within the sides.

    x_i and y_i are two views of sample i. Its temperature is that of the row of x.
    """

    within_sides = True
    no_keys = "it also compares the samples within each side, where keys have no place"

    def __init__(self, temperature: Control | float, **options: Unpack[ViewOptions]) -> None:
        super().__init__(temperature, directions="x2y", **options)

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        **relation: Unpack[RelationOptions],
    ) -> Batch:
        batch = super().batch(x, y, index, **relation)
        related, name = batch.relation, type(self).__name__
        labelled = related.itself or related.labels is not None or related.ignore is not None
        paired = len(batch.x) == len(batch.y)
        if paired and not related.diagonal:
            rows = torch.arange(len(batch.x), device=batch.x.device)
            paired = torch.equal(related.positive, rows)
        if labelled or not paired:
            raise ValueError(
                f"{name} compares two views of the same samples: pass x and y of one length, "
                "x[i] and y[i] a pair, with no relation but same="
            )
        need_negatives(self, batch, ["x2y"])
        return batch

    def within(self, batch: Batch, scale: Tensor, side: Direction) -> Tensor:
        """Return (n,) log-sum-exp of s·scale over the other samples of one side.

        Args:
            batch: a batch of two sides.
            scale: 1/τ of each sample, (n,) or ().
            side: "x2y" for that of x, "y2x" for that of y.
        """
        z, ranks = within_range(batch.sides[side]), batch.ranks
        first = 0 if ranks is None else ranks.first
        rows = torch.arange(len(z), device=z.device) + first
        same = []
        for of_x, of_y in batch.relation.same:
            ids = of_x if side == "x2y" else of_y[first : first + len(z)]
            same.append((ids, ids if ranks is None else ranks.gather(ids, ranks.rows)))
        (partition,) = reduce_pairs(
            z,
            z,
            [Reduction.of("rows", "logsumexp", Scaled(), batch.number(scale, "x2y"))],
            PairMask(rows, own=True, same=same, diagonal=first),
            tile=batch.tile,
            cosine=self.normalize,
            ranks=ranks,
            exchange=batch.exchange,
        )
        return partition


class PairedMVInfoNCE(OfTwoSides):
    """:class:`MVInfoNCE` of two views, as a loss of pairs.

    ℓ_i = log [ Σ_{j≠i} (exp(s^xx_ij/τ_i) + exp(s^yy_ij/τ_i)) + Σ_j (exp(s^xy_ij/τ_i)
    + exp(s^yx_ij/τ_i)) ] − s^xy_ii/τ_i − log 2

    Koromilas et al. 2025. ``loss_fn(x, y, index, same=...)``.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.

    The other arguments are those of :class:`InfoNCE`, without ``directions`` and ``force``.

    Raises:
        ValueError: a temperature that can reach 0 or below, one of pairs, or one of the robust
            objective.
    """

    composition = MVInfoNCE.composition

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        scale = 1 / batch.values(self.strength, "x2y")
        rows, columns = batch.number(scale, "x2y"), batch.number(scale, "y2x")
        across = batch.reduce(
            Reduction.of("rows", "logsumexp", Scaled(), rows),
            Reduction.of("cols", "logsumexp", Scaled(), columns),
            own=False,
        )
        inside = [self.within(batch, scale, "x2y"), self.within(batch, scale, "y2x")]
        whole = torch.stack([*across, *inside]).logsumexp(0)
        return [whole - batch.positives("x2y") * scale - math.log(2)]


class PairedMVDHEL(OfTwoSides):
    """:class:`MVDHEL` of two views, DHEL, as a loss of pairs.

    ℓ_i = LSE_{j≠i}(s^xx_ij/τ_i) + LSE_{j≠i}(s^yy_ij/τ_i) − s^xy_ii/τ_i

    Koromilas et al. 2024 and 2025. ``loss_fn(x, y, index, same=...)``. A sample without another
    one beside it contributes 0.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.

    The other arguments are those of :class:`InfoNCE`, without ``directions`` and ``force``.

    Raises:
        ValueError: a temperature that can reach 0 or below, one of pairs, or a learned one.
    """

    composition = MVDHEL.composition

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        scale = 1 / batch.values(self.strength, "x2y")
        inside = [self.within(batch, scale, "x2y"), self.within(batch, scale, "y2x")]
        alone = torch.isneginf(inside[0]) | torch.isneginf(inside[1])
        spread = inside[0].masked_fill(alone, 0.0) + inside[1].masked_fill(alone, 0.0)
        return [(spread - batch.positives("x2y") * scale).masked_fill(alone, 0.0)]


@dataclass
class MVInfoNCESpec(Weighted):
    """InfoNCE over all pairs of two views, within and across them (MV-InfoNCE)."""

    kind: ClassVar[str] = "mvinfonce"
    title: ClassVar[str] = "MV-InfoNCE"
    views: ClassVar[bool] = True

    def build(self, control: ControlSpec, context: Context) -> PairedMVInfoNCE:
        return PairedMVInfoNCE(control.build(context), **self.weighting(control, context))


@dataclass
class MVDHELSpec(Weighted):
    """Alignment of two views, and uniformity inside each, decoupled (MV-DHEL)."""

    kind: ClassVar[str] = "mvdhel"
    title: ClassVar[str] = "MV-DHEL"
    views: ClassVar[bool] = True

    def build(self, control: ControlSpec, context: Context) -> PairedMVDHEL:
        return PairedMVDHEL(control.build(context), **self.weighting(control, context))
