"""Sigmoid loss of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from torch import Tensor
from torch.nn import functional as F

from tauten.controls import Control, Direction, Learnable, as_control
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch, along
from tauten.losses.composition import Composition, Refused, check_composition, check_range
from tauten.losses.equalized_force import Forced
from tauten.losses.options import Force, Options
from tauten.losses.queued import Queued
from tauten.losses.weighting import Weighted
from tauten.pairwise import Number, Reduction, Softplus
from tauten.pairwise.objectives import Sigmoids
from tauten.pairwise.terms import LOST
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack


_BIAS = Composition(
    dual=Refused("the robust objective says nothing of a bias"),
    pair=Refused("an anchor has one bias; a pair's logit is set by its temperature"),
)
_SIGMOIDS = Sigmoids()


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

    pools = True
    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = Composition(
        dual=Refused("each pair is judged alone, so there is no partition to learn τ from")
    )
    no_targets = "each pair is judged alone, and targets are shares among candidates: use InfoNCE"
    no_repulsion = "each pair is judged alone, so there is no denominator in which negatives weigh"
    no_negatives = ""

    def __init__(
        self,
        temperature: Control | float,
        bias: Control | float = -10.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(temperature, **options)
        self.bias = as_control(bias)
        check_range("SigLIP's bias", self.bias, -float("inf"), strict=False)
        check_composition("SigLIP", "bias", self.bias, _BIAS, cosine=self.normalize)
        self._use_controls()

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        scales = batch.scales(self.strength, directions)
        biases = [batch.values(self.bias, d) for d in directions]
        both = batch.both(_SIGMOIDS, directions, scales, biases)
        if both is not None:
            return [both]
        slopes = [batch.number(scale, d) for scale, d in zip(scales, directions, strict=True)]
        offsets = [batch.number(bias, d) for bias, d in zip(biases, directions, strict=True)]
        if self.strength.granularity == "global":
            slopes = [slopes[0]] * len(slopes)
        if self.bias.granularity == "global":
            offsets = [offsets[0]] * len(offsets)
        several = batch.relation.labels is not None
        sums = batch.reduce(
            *(
                Reduction.of(along(d), "sum", Softplus(), slope, offset)
                for slope, offset, d in zip(slopes, offsets, directions, strict=True)
            ),
            own=not several,
        )
        logits = [
            batch.positives(d) * batch.at_positives(scale, d) + bias
            for scale, bias, d in zip(scales, biases, directions, strict=True)
        ]
        sums = tuple(
            total if d not in batch.hard else total + self._of_hard(batch, slope, offset, d)
            for total, slope, offset, d in zip(sums, slopes, offsets, directions, strict=True)
        )
        if not several:
            return [
                total + F.softplus(-logit, threshold=LOST)
                for total, logit in zip(sums, logits, strict=True)
            ]
        return [
            total - batch.positive_counts(d) * logit
            for total, logit, d in zip(sums, logits, directions, strict=True)
        ]

    @staticmethod
    def _of_hard(batch: Batch, slope: Number, offset: Number, direction: Direction) -> Tensor:
        """Return (n,) what each anchor's own negatives add."""
        hard = batch.hard[direction]
        a, b = (batch.at_hard(number, direction) for number in (slope, offset))
        return hard.sum(Softplus().value(hard.similarity, a, b))


@dataclass
class SigLIPSpec(Queued, Forced, Weighted):
    """Each pair classified on its own as matching or not (SigLIP)."""

    kind: ClassVar[str] = "siglip"
    title: ClassVar[str] = "SigLIP"

    bias: Annotated[float, Range(-100.0, 100.0)] = -10.0
    """initial bias, learned"""

    def build(self, control: ControlSpec, context: Context) -> SigLIP:
        return SigLIP(
            control.build(context),
            Learnable(self.bias, low=-100.0, high=100.0),
            **self.keywords(control, context),
        )
