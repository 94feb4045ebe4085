"""Decoupled contrastive loss with weighted positives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor

from tauten.checks import finite
from tauten.controls import Control, Direction
from tauten.losses.batch import Batch
from tauten.losses.composition import Refused
from tauten.losses.dcl import DCL, DCLSpec
from tauten.losses.options import Force, Options
from tauten.losses.partition import logits_lse, need_negatives
from tauten.pairwise import reciprocal
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack


class DCLW(DCL):
    """:class:`DCL` that pulls more where a pair is far apart.

    ℓ_i = ½ [ LSE_{j≠i}(s_ij/τ_i) + LSE_{j≠i}(s_ji/τ_i) ] − w_i·s_ii/τ_i
    w_i = 2 − exp(s_ii/σ) / mean_k exp(s_kk/σ)

    Yeh et al., ECCV 2022. The weights have the mean 1 over the anchors of all processes and are
    held fixed, so that ∂ℓ_i/∂s_ii = −w_i/τ_i. With several positives (``labels=``) s_ii is the mean
    over them.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        sigma: > 0, in units of s; the smaller, the more unequal the weights. Published: 0.5.

    The other arguments are those of :class:`DCL`.

    Raises:
        ValueError: a sigma that is not > 0, a temperature that can reach 0 or below, or one that is
            learned by this loss's gradient or by the robust objective.
    """

    pools = True
    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = replace(
        DCL.composition, dual=Refused("the robust objective has no weights of positives")
    )
    no_targets = DCL.no_targets
    no_repulsion = ""
    no_negatives = ""

    def __init__(
        self, temperature: Control | float, sigma: float = 0.5, **options: Unpack[Options]
    ) -> None:
        super().__init__(temperature, **options)
        self.sigma = finite("sigma", sigma)
        if self.sigma <= 0:
            raise ValueError(f"sigma must be > 0, got {sigma!r}; published: 0.5")

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        scales = [reciprocal(batch.strength(self.strength, d)) for d in directions]
        partitions = logits_lse(batch, scales, directions, own=True)
        losses = []
        for partition, scale, d in zip(partitions, scales, directions, strict=True):
            alone = batch.without_anchor(torch.isneginf(partition), d)
            s = batch.positives(d)
            weight = 2 - batch.relative_exp(s / self.sigma, d)
            loss = partition.masked_fill(alone, 0.0) - weight * s * batch.at_positives(scale, d)
            losses.append(loss.masked_fill(alone, 0.0))
        return losses


@dataclass
class DCLWSpec(DCLSpec):
    """DCL that pulls more where a pair is far apart (DCLW)."""

    kind: ClassVar[str] = "dclw"
    title: ClassVar[str] = "DCLW"

    sigma: Annotated[float, Range(0.0, 1e3, above=True)] = 0.5
    """how unequal the weights of positives are: 2 - exp(s/sigma) over its mean; the smaller, the
    more"""

    def build(self, control: ControlSpec, context: Context) -> DCLW:
        return DCLW(
            control.build(context),
            self.sigma,
            **self.keywords(control, context),
        )
