"""Z-loss: the standard deviations by which a positive lies above its anchor's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor

from tauten.checks import finite
from tauten.controls import Control, Direction
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch, along
from tauten.losses.composition import MARGIN, Composition, Refused, check_range
from tauten.losses.of_positives import mean_logistic
from tauten.losses.options import SharedOptions
from tauten.losses.queued import Queued
from tauten.losses.weighting import SizeWeighted
from tauten.pairwise import One, Reduction, Scaled, Term
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class Spread(Term):
    """(s − c)², the squared distance of a score from a centre."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        return (s - numbers[0]) ** 2


class ZLoss(ContrastiveLoss):
    """Classification by the z-score of the positive (de Brébisson & Vincent, 2016).

    ℓ_i = 1/|P(i)| Σ_{p∈P(i)} 1/a · log(1 + exp(a·(b_i − z_ip))),  z_ip = (s_ip − μ_i)/σ_i

    μ_i and σ_i are the mean and the standard deviation of s_ij over all candidates j of the anchor,
    its positives included. Scores may be shifted or scaled without a change, so no temperature has
    an effect; what is controlled is b_i, the number of standard deviations by which a positive must
    lie above the mean. z cannot exceed the root of the number of the other candidates. An anchor
    that has only one candidate contributes 0.

    Args:
        margin: b, a control or a number.
        sharpness: a > 0, of the logistic function.

    The other arguments are those of :class:`InfoNCE`, without ``force``.

    Raises:
        ValueError: a margin that is learned or differs from pair to pair, or a sharpness that is
            not > 0.
        NonFiniteLossError: an anchor all of whose candidates have the same score.
    """

    strength_name = "margin"
    composition = Composition(
        learned=MARGIN.learned,
        learned_anchor=MARGIN.learned_anchor,
        dual=Refused("it does not change when scores are scaled, so it has no temperature"),
        pair=Refused("an anchor's scores are measured together, by one mean and one deviation"),
    )

    def __init__(
        self, margin: Control | float, sharpness: float = 1.0, **options: Unpack[SharedOptions]
    ) -> None:
        super().__init__(margin, **options)
        self.sharpness = finite("sharpness", sharpness)
        if self.sharpness <= 0:
            raise ValueError(f"sharpness must be > 0, got {sharpness!r}")

    def _check_strength(self) -> None:
        check_range("ZLoss's margin", self.strength, -float("inf"), strict=False)

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        one = torch.ones(1, 1, device=batch.x.device, dtype=batch.dtype)
        sums = batch.reduce(
            *(Reduction(along(d), "sum", Scaled(), (one,)) for d in directions),
            *(Reduction(along(d), "sum", One(), ()) for d in directions),
            own=False,
        )
        counts = [count.detach().clamp(min=1) for count in sums[len(directions) :]]
        means = [total / count for total, count in zip(sums, counts, strict=False)]
        squares = batch.reduce(
            *(
                Reduction.of(along(d), "sum", Spread(), batch.number(mean, d))
                for mean, d in zip(means, directions, strict=True)
            ),
            own=False,
        )
        alone = [
            batch.without_anchor(count < 2, d) for count, d in zip(counts, directions, strict=True)
        ]
        slopes, offsets = [], []
        for mean, square, count, out, d in zip(
            means, squares, counts, alone, directions, strict=True
        ):
            deviation = (square / count).masked_fill(out, 1.0).sqrt()
            slopes.append(self.sharpness / deviation)
            margin = self.sharpness * batch.values(self.strength, d)
            offsets.append(margin + mean * slopes[-1])
        losses = mean_logistic(batch, slopes, offsets, directions)
        return [
            (loss / self.sharpness).masked_fill(out, 0.0)
            for loss, out in zip(losses, alone, strict=True)
        ]


@dataclass
class ZLossSpec(Queued, SizeWeighted):
    """Standard deviations by which the positive lies above all candidates (Z-loss)."""

    kind: ClassVar[str] = "zloss"
    title: ClassVar[str] = "Z-loss"
    strength: ClassVar[Literal["temperature", "margin"]] = "margin"
    views: ClassVar[bool] = True

    sharpness: Annotated[float, Range(0.0, 1e3, above=True)] = 1.0
    """a of the logistic function; the control sets b, in standard deviations"""

    def build(self, control: ControlSpec, context: Context) -> ZLoss:
        return ZLoss(
            control.build(context),
            self.sharpness,
            **self.keywords(control, context),
        )
