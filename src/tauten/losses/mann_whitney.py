"""Every positive ranked against every negative of the batch, across anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from tauten.controls import Control, Direction
from tauten.losses.batch import Batch
from tauten.losses.composition import Composition, Doubtful, Refused
from tauten.losses.of_positives import WithMargin
from tauten.losses.options import RelationOptions, SharedOptions
from tauten.losses.partition import need_negatives
from tauten.losses.weighting import Weighted
from tauten.pairwise import Reduction, Softplus
from tauten.pairwise.exchange import gather_columns, total
from tauten.pairwise.tiled import tile_on
from tauten.relations import Ids
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: positives that are compared with all negatives in one sweep
_AT_ONCE = 64
#: pairs of the batch up to which sweeps hold them whole where the choice is ours
_HELD = 128 * 128


class MannWhitney(WithMargin):
    """Logistic loss of each positive against all negatives of all anchors (MW loss).

    ℓ_i = mean_{(k,j) negative} log(1 + exp((s_kj − s_ii + m_i)/τ_i))

    The negatives are those of the whole batch, so that scores of different anchors become
    comparable: it bounds the area over the ROC curve, AoC ≤ L/log 2, whatever τ_i > 0 is. A shift
    of one anchor's scores, which leaves :class:`InfoNCE` alone, changes it. In the Mann-Whitney
    loss of AUC-driven text retrieval the negatives are summed; here their mean is taken, so that
    its size does not depend on the batch. τ there: 0.01.

    Each positive is a sweep over all pairs: B times the work of :class:`InfoNCE`, meant for
    batches up to some hundreds.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples. It divides the
            difference of two scores.
        margin: a control or a number m_i in units of s.

    The other arguments are those of :class:`InfoNCE`, without ``force``.

    Raises:
        ValueError: a temperature that can reach 0 or below, one of pairs, or one of the robust
            objective; a call with ``labels=``.
    """

    composition = Composition(
        learned=Doubtful("once all pairs are ordered the loss falls as τ does, to its lower bound"),
        learned_anchor=Doubtful(
            "once all pairs are ordered the loss falls as τ does, to its lower bound"
        ),
        dual=Refused("it compares pairs of scores and has no partition to learn τ from"),
        pair=Refused("τ divides the difference of two scores, of two pairs"),
    )

    def __init__(
        self,
        temperature: Control | float,
        *,
        margin: Control | float | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(temperature, margin=margin, **options)

    def batch(
        self,
        x: Tensor,
        y: Tensor | None = None,
        index: Ids | None = None,
        **options: Unpack[RelationOptions],
    ) -> Batch:
        batch = super().batch(x, y, index, **options)
        relations = [part.relation for part in batch.parts]
        again = [r.times is not None and int(r.times.max()) > 1 for r in relations if r.ranks]
        if any(again):
            raise ValueError(
                "MannWhitney over several processes takes each row of y as the positive of one row "
                "of x at most, and positives= name some more often"
            )
        if any(r.labels is not None for r in relations):
            raise ValueError(
                "MannWhitney ranks one positive of each anchor: pass labels as same=, which "
                "leaves the further positives out"
            )
        return batch

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        shared = self.strength.shared and (self.margin is None or self.margin.shared)
        losses = [self._of(batch, directions[0])]
        for d in directions[1:]:  # the negatives of both directions are the same
            on_columns = batch.relation.on_columns
            losses.append(on_columns(losses[0], len(batch.y)) if shared else self._of(batch, d))
        return losses

    def _of(self, batch: Batch, direction: Direction) -> Tensor:
        """Return (n,) the losses of the anchors of a direction."""
        scale = 1 / batch.values(self.strength, direction)
        positives = batch.positives(direction)
        slopes = scale.expand_as(positives)
        offsets = self.margins(batch, scale, direction) - positives * slopes
        relation, ranks, rows = batch.relation, batch.ranks, direction == "x2y"
        if ranks is not None:
            if rows:
                slopes, offsets = (relation.on_columns(v, len(batch.y)) for v in (slopes, offsets))
            slopes, offsets = (gather_columns(v, ranks) for v in (slopes, offsets))
        whole = self._against_all(batch, slopes, offsets)
        count = batch.negatives("x2y").expand(len(batch.x)).sum()
        if ranks is not None:
            whole, count = total(whole, ranks)[ranks.own], ranks.sum_(count)
            whole = relation.of_rows(whole) if rows else whole
        paired = batch.paired(direction)
        loss = whole / count.clamp(min=1)
        return loss if paired is None else loss.masked_fill(~paired, 0.0)

    def _against_all(self, batch: Batch, slopes: Tensor, offsets: Tensor) -> Tensor:
        """Return (n,) Σ log(1 + exp(s·slope + offset)) over this process's negative pairs s."""
        large = batch.tile == "auto" and len(batch.x) * len(batch.y) > _HELD
        swept = replace(batch, tile=tile_on(batch.x.device)) if large else batch
        sums = []
        for start in range(0, len(slopes), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            reductions = (
                Reduction("rows", "sum", Softplus(), (a.view(1, 1), b.view(1, 1)))
                for a, b in zip(slopes[part], offsets[part], strict=True)
            )
            sums += [row.sum() for row in swept.reduce(*reductions, own=True)]
        return torch.stack(sums)


@dataclass
class MannWhitneySpec(Weighted):
    """Every positive ranked against every negative of the batch (Mann-Whitney, AUC)."""

    kind: ClassVar[str] = "mannwhitney"
    title: ClassVar[str] = "Mann-Whitney"
    views: ClassVar[bool] = True

    margin: Annotated[float, Range(-2.0, 2.0)] = 0.0
    """by how much the cosine of a positive must win"""

    def build(self, control: ControlSpec, context: Context) -> MannWhitney:
        return MannWhitney(
            control.build(context),
            margin=self.margin,
            **self.keywords(control, context),
        )
