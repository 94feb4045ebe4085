"""Softmax in which positives of one anchor do not compete (DEXML)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor

from tauten.controls import Direction
from tauten.losses.batch import Batch
from tauten.losses.composition import Composition, Refused
from tauten.losses.equalized_force import Forced
from tauten.losses.of_positives import WithMargin, mean_logistic
from tauten.losses.options import Force
from tauten.losses.partition import filled, negatives_lse
from tauten.losses.queued import Mixed
from tauten.losses.weighting import Weighted
from tauten.spec import Context, ControlSpec, Range


class DecoupledSoftmax(WithMargin):
    """Cross-entropy of each positive against the negatives alone (Gupta et al., ICLR 2024).

    ℓ_i = 1/|P(i)| Σ_{p∈P(i)} −log[ exp((s_ip − m_i)/τ_i)
    / ( exp((s_ip − m_i)/τ_i) + Σ_{n∉P(i)} exp(s_in/τ_i) ) ]

    With several positives (``labels=``) they do not repel each other, as they do in the
    denominator of :class:`SupCon`. With one it is :class:`InfoNCE`. An anchor without a negative
    contributes 0. DEXML, "Dual-Encoders for Extreme Multi-Label Classification".

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        margin: a control or a number m_i in units of s, by which each positive must win.

    The other arguments are those of :class:`InfoNCE`.

    Raises:
        ValueError: a temperature that can reach 0 or below, or one of the robust objective.
    """

    forces: tuple[Force, ...] = ("plain", "equalized")
    composition = Composition(
        dual=Refused("each positive has a partition of its own, and an anchor one temperature")
    )
    no_targets = (
        "where every candidate is partly positive, no negatives are left for its denominator: use "
        "InfoNCE, or labels="
    )
    no_repulsion = ""
    no_negatives = ""

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        scales = batch.scales(self.strength, directions)
        partitions = negatives_lse(batch, scales, directions)
        offsets = [
            part + self.margins(batch, scale, d)
            for (part, _), scale, d in zip(partitions, scales, directions, strict=True)
        ]
        losses = mean_logistic(batch, scales, offsets, directions)
        return [filled(loss, empty) for loss, (_, empty) in zip(losses, partitions, strict=True)]


@dataclass
class DecoupledSpec(Mixed, Forced, Weighted):
    """Softmax in which positives of one anchor do not compete (decoupled softmax, DEXML)."""

    kind: ClassVar[str] = "decoupled"
    title: ClassVar[str] = "decoupled softmax"
    views: ClassVar[bool] = True

    margin: Annotated[float, Range(-2.0, 2.0)] = 0.0
    """by how much the cosine of a positive must win"""

    def build(self, control: ControlSpec, context: Context) -> DecoupledSoftmax:
        return DecoupledSoftmax(
            control.build(context),
            margin=self.margin,
            **self.keywords(control, context),
        )
