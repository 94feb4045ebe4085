"""Sigmoid loss of pairs whose bias is a threshold in units of the similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from torch import Tensor
from torch.nn import functional as F

from tauten.controls import Control, Direction, Learnable
from tauten.losses.batch import Batch, along
from tauten.losses.options import Force, Options
from tauten.losses.siglip import SigLIP, SigLIPSpec
from tauten.pairwise import Reduction, Term
from tauten.pairwise.terms import LOST
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack


@dataclass(frozen=True)
class SoftOffset(Term):
    """log(1 + exp((s − c)·a)), the loss of a negative pair whose score should lie below c."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, c = numbers
        return F.softplus((s - c) * a, threshold=LOST)


class RelativeSigLIP(SigLIP):
    """:class:`SigLIP` with the relative bias r_i in the place of the bias, b_i = −r_i/τ_i.

    ℓ_i = ½ Σ_j softplus(−z_ij·(s_ij − r_i)/τ_i) + ½ Σ_j softplus(−z_ji·(s_ji − r_i)/τ_i)

    with z = 1 for positives and −1 otherwise. r is the similarity above which a pair is taken to
    match. A change of τ moves the bias with it, so that the threshold stays where it is: with a
    temperature of each sample or over time b alone cannot do that. Bangachev et al. 2025, "Global
    Minimizers of Sigmoid Contrastive Loss", where one τ and one r are learned.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        relative_bias: r, a control or a number, in units of s; 1 with τ = 0.1 is the published
            start of :class:`SigLIP`.

    The other arguments are those of :class:`InfoNCE`.

    Raises:
        ValueError: a temperature that can reach 0 or below, or an unknown option.
    """

    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = SigLIP.composition

    def __init__(
        self,
        temperature: Control | float,
        relative_bias: Control | float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(temperature, relative_bias, **options)

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        scales = batch.scales(self.strength, directions)
        thresholds = [batch.values(self.bias, d) for d in directions]
        several = batch.relation.labels is not None
        sums = batch.reduce(
            *(
                Reduction.of(
                    along(d), "sum", SoftOffset(), batch.number(scale, d), batch.number(at, d)
                )
                for scale, at, d in zip(scales, thresholds, directions, strict=True)
            ),
            own=not several,
        )
        losses = []
        for total, scale, at, d in zip(sums, scales, thresholds, directions, strict=True):
            logit = (batch.positives(d) - at) * batch.at_positives(scale, d)
            if several:  # softplus(−z) = softplus(z) − z
                losses.append(total - batch.positive_counts(d) * logit)
            else:
                losses.append(total + F.softplus(-logit, threshold=LOST))
        return losses


@dataclass
class RelativeSigLIPSpec(SigLIPSpec):
    """SigLIP whose bias is a threshold on the cosine, which τ does not move."""

    kind: ClassVar[str] = "relativesiglip"
    title: ClassVar[str] = "SigLIP, relative bias"

    bias: Annotated[float, Range(-2.0, 2.0)] = 1.0
    """initial relative bias, the cosine above which a pair is taken to match; learned"""

    def build(self, control: ControlSpec, context: Context) -> RelativeSigLIP:
        return RelativeSigLIP(
            control.build(context),
            Learnable(self.bias, low=-2.0, high=2.0),
            **self.keywords(control, context),
        )
