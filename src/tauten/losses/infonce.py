"""InfoNCE with a temperature for each anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import finite
from tauten.controls import Control, Direction, Individual, as_control
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch
from tauten.losses.beside import Beside
from tauten.losses.composition import (
    MARGIN,
    Composition,
    Doubtful,
    check_composition,
    check_range,
)
from tauten.losses.equalized_force import Forced
from tauten.losses.options import Force, Options
from tauten.losses.partition import (
    Partition,
    above_mean,
    filled,
    gaps,
    logits_lse,
    lse_of_positives,
    need_negatives,
    negatives_lse,
    report,
    robust_gradients,
)
from tauten.losses.queued import OF_KEYS, OF_PAIRS, Mixed
from tauten.losses.soft import soft_logits
from tauten.losses.weighting import Weighted
from tauten.pairwise import Number
from tauten.pairwise.once import hold
from tauten.pairwise.terms import LOST
from tauten.relations import Relation
from tauten.spec import Context, ControlSpec, Range, Share, When

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: what is made of several positives
Several = Literal["mean", "logsum"]
#: what a margin is measured in
MarginOf = Literal["cosine", "angle"]
#: 1 − s² below which an angle has no gradient, as it is infinite at 0
_FLAT = 1e-7
#: z below which exp(z)² is lost in float32
_WON = -15.0


#: options that do not go with ``targets=``, with the reason
_WITH_TARGETS = {
    "label_smoothing": "give the weights themselves a constant part",
    "margin": "a margin is what one positive must win by, and here every candidate is partly one",
    "force": "attraction fades here where the target is met, and not where one positive wins",
    "dual": "the robust objective compares negatives with one positive, and here there is none",
    "positives": "targets say how much each positive counts",
}
#: options that do not go with ``repulsion=``, with the reason
_WITH_REPULSION = {
    "label_smoothing": "with weights in the denominator the loss is no cross-entropy any more",
    "dual": "the robust objective finds weights of the negatives itself",
}


class InfoNCE(ContrastiveLoss):
    """Softmax cross-entropy of each anchor's positive among all candidates, both ways.

    ℓ_i = ½ [ LSE_j(s_ij/τ_i) − s_ii/τ_i  +  LSE_j(s_ji/τ_i) − s_ii/τ_i ]

    s_ij is the cosine of x_i and y_j; the anchor's τ_i divides its whole row of candidates, in
    both directions, and a τ_ij its pair. With several positives (``labels=``) s_ii is the mean over
    them. Oord et al. 2018; Radford et al. 2021; per-anchor τ as in MM-TS (WACV 2026).

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        force: ``"plain"`` as published, where a low τ_i also multiplies the anchor's gradient by
            1/τ_i; ``"equalized"`` multiplies the anchor's loss by τ_i over its running mean, so
            that τ changes the shape of the force and not its size; ``"reweighted"`` multiplies it
            by 1/(1 − p_ii), as MACL does, so that attraction never fades: the gradient is that of
            :class:`DCL`.
        label_smoothing: ε in [0, 1): cross-entropy against 1 − ε for the positive plus ε spread
            evenly over all candidates that are not ignored, as that of
            ``torch.nn.functional.cross_entropy``; it adds ε·(s_ii/τ_i − mean_j s_ij/τ_i). Not with
            ``force="reweighted"`` or a temperature of the robust objective.
        margin: a control or a number m_i in units of s, of either sign, subtracted from s_ii: the
            positive must win by it, as in CosFace and InterCLR (there −0.5). It needs one positive
            for each anchor; otherwise as for ``label_smoothing``.
        margin_of: ``"cosine"``, or ``"angle"``: m_i is in radians and cos(θ_ii + m_i) stands for
            s_ii, as in ArcFace and InterCLR; beyond [0, π] it goes on falling with the angle.
        positives: what is made of several (``labels=``): ``"mean"`` of their logits, as in SupCon,
            or ``"logsum"`` of their exponentials, so that one near positive is enough (MIL-NCE):
            LSE_j(s_ij/τ_i) − LSE_{p∈P(i)}(s_ip/τ_i). :class:`DecoupledSoftmax` lets them not
            compete. Not with ``label_smoothing`` or ``force="reweighted"``.
        weight: a control or a number >= 0 that multiplies each anchor's loss.
        directions: ``"both"``, or only ``"x2y"`` or ``"y2x"``.
        normalize: whether rows are scaled to length 1 first.
        tile: ``"auto"``, ``"dense"``, ``"triton"``, or the size of the engine's tiles.
        reduction: ``"mean"`` or ``"sum"`` over anchors, ``"none"``, or ``DRO(...)``.
        ranks: over several processes ``"gather"`` holds all rows of y on each, ``"ring"`` passes
            them on; ``"local"`` gives each process its own negatives only. ``"auto"`` is
            ``"gather"``, but of up to 512 x 512 pairs in all, each process takes the whole loss.

    Raises:
        ValueError: a temperature that can reach 0 or below, an unknown option, or a control that
            does not suit this loss.
    """

    pools = True
    forces: tuple[Force, ...] = ("plain", "equalized", "reweighted")
    composition = Composition(
        dual=Doubtful(
            "its objective is that of the negatives alone, while InfoNCE also counts the positive; "
            "DCL and SogCLR do not"
        ),
    )
    no_targets = ""
    no_repulsion = ""
    no_negatives = ""

    def __init__(
        self,
        temperature: Control | float,
        *,
        label_smoothing: float = 0.0,
        margin: Control | float | None = None,
        margin_of: MarginOf = "cosine",
        positives: Several = "mean",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(temperature, **options)
        self.label_smoothing = finite("label_smoothing", label_smoothing)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing!r}")
        if self.label_smoothing:
            self._needs_cross_entropy(f"label_smoothing={label_smoothing!r}")
        margin = None if margin is None else as_control(margin)
        self.margin = None if margin is None or margin.fixed == 0 else margin
        if self.margin is not None:
            self._needs_cross_entropy(f"margin={self.margin!r}")
            name = type(self).__name__
            check_range(f"{name}'s margin", self.margin, -float("inf"), strict=False)
            check_composition(name, "margin", self.margin, MARGIN, cosine=self.normalize)
            self._use_controls()
        if margin_of not in ("cosine", "angle"):
            raise ValueError(f"margin_of must be 'cosine' or 'angle', got {margin_of!r}")
        if margin_of == "angle" and not self.normalize:
            raise ValueError(
                "margin_of='angle' needs cosines, and normalize=False gives products of any size"
            )
        self.margin_of: MarginOf = margin_of
        if positives not in ("mean", "logsum"):
            raise ValueError(
                f"positives must be 'mean' or 'logsum', got {positives!r}; DecoupledSoftmax is for "
                "positives that do not compete"
            )
        self.several: Several = positives
        if positives == "logsum":
            self._needs_cross_entropy("positives='logsum'")
            if self.label_smoothing:
                raise ValueError(
                    "label_smoothing= spreads the target over candidates, and positives='logsum' "
                    "has none for each positive: use one of them"
                )

    def _needs_cross_entropy(self, option: str) -> None:
        """Refuse an option of the cross-entropy where the loss is another."""
        if type(self).anchor_losses is not InfoNCE.anchor_losses:
            raise ValueError(f"{type(self).__name__} is no cross-entropy, so {option} has no place")
        if self.force == "reweighted":
            raise ValueError(
                f"force='reweighted' has the gradient of DCL, which is no cross-entropy, so "
                f"{option} has no place: use force='plain' or 'equalized'"
            )
        if self.strength.learns == "dual":
            raise ValueError(
                f"{self.strength!r} is learned by the robust objective, which says nothing of "
                f"{option}: leave it out, or take another control"
            )

    def check_beside(self, beside: Beside) -> None:
        if beside.targets is not None:
            self._refuse_beside("targets", _WITH_TARGETS)
        if beside.repulsion is not None:
            self._refuse_beside("repulsion", _WITH_REPULSION)

    def _refuse_beside(self, name: str, reasons: Mapping[str, str]) -> None:
        for kind, used, option in (
            ("label_smoothing", self.label_smoothing, f"label_smoothing={self.label_smoothing!r}"),
            ("margin", self.margin is not None, f"margin={self.margin!r}"),
            ("force", self.force == "reweighted", f"force={self.force!r}"),
            ("dual", self.strength.learns == "dual", repr(self.strength)),
            ("positives", self.several == "logsum", "positives='logsum'"),
        ):
            if used and kind in reasons:
                raise ValueError(f"{name}= and {option} do not go together: {reasons[kind]}")

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        if batch.targets is not None:
            return self._against_targets(batch, batch.targets.share, directions)
        losses = self._cross_entropies(batch, directions)
        if not self.label_smoothing:
            return losses
        scales = batch.scales(self.strength, directions)
        logits = self._logits(batch, scales, directions)
        gaps = above_mean(batch, scales, logits, directions)
        return [loss + self.label_smoothing * gap for loss, gap in zip(losses, gaps, strict=True)]

    def _against_targets(
        self, batch: Batch, share: float, directions: Sequence[Direction]
    ) -> list[Tensor]:
        """Return the cross-entropies against targets, of which the rest is that of positives."""
        scales = batch.scales(self.strength, directions)
        sums = soft_logits(batch, scales, directions)
        if share == 1:
            return [partition - logit for partition, logit in sums]
        return [
            partition - (share * soft + (1 - share) * logit)
            for (partition, soft), logit in zip(
                sums, self._logits(batch, scales, directions), strict=True
            )
        ]

    def _logits(
        self, batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
    ) -> list[Tensor]:
        """Return (n,) mean logit of the positives of each direction's anchors, less the margin."""
        positives = [batch.positives(d) for d in directions]
        logits: list[Tensor] = []
        for s, scale, d in zip(positives, scales, directions, strict=True):
            if self.margin is not None:
                m = batch.values(self.margin, d)
                s = s - m if self.margin_of == "cosine" else _turned(s, m)
            alike = logits and s is positives[0] and scale is scales[0]
            if alike and isinstance(scale, Tensor) and scale.dim() == 0:
                logits.append(logits[0])
            else:
                logits.append(s * batch.at_positives(scale, d))
        return logits

    def _check_labels(self, relation: Relation, *, twice: bool) -> None:
        if self.margin is not None:
            raise ValueError(
                "margin= is what one positive must win by, and labels= give several: pass "
                "labels as same=, which leaves the further positives out, or leave margin= out"
            )
        super()._check_labels(relation, twice=twice)

    def _cross_entropies(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        several = batch.relation.labels is not None
        if not several or self.force == "reweighted" or self.strength.learns == "dual":
            return self._from_negatives(batch, directions)
        scales = batch.scales(self.strength, directions)
        if self.several == "logsum":
            return self._from_nearest(batch, scales, directions)
        partitions = logits_lse(batch, scales, directions, own=False)
        return [
            partition - logit
            for partition, logit in zip(
                partitions, self._logits(batch, scales, directions), strict=True
            )
        ]

    def _from_nearest(
        self, batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
    ) -> list[Tensor]:
        """Return log(1 + Σ_n exp(s_in/τ_i) / Σ_p exp(s_ip/τ_i)) over negatives n, positives p."""
        negatives = negatives_lse(batch, scales, directions)
        positives = lse_of_positives(batch, scales, directions)
        losses = []
        for (negative, empty), positive in zip(negatives, positives, strict=True):
            z = negative - filled(positive, empty)
            losses.append(filled(F.softplus(z, threshold=LOST), empty))
        return losses

    def _from_negatives(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        """Return the losses from z_i = LSE_{j≠i}(s_ij/τ_i) − s_ii/τ_i, of the negatives alone.

        So they keep their digits where a pair is won, log(1 + exp(z_i)) with z_i far below 0.
        """
        learned = self.strength.learns == "dual"
        if learned or self.force == "reweighted":
            need_negatives(self, batch, directions)
        if batch.relation.labels is not None and (learned or self.force == "reweighted"):
            what = repr(self.strength) if learned else "force='reweighted'"
            raise ValueError(f"{what} needs one positive for each anchor: pass labels as same=")
        scales = batch.scales(self.strength, directions, detached=learned)
        if not learned and self.margin is None and not self.label_smoothing:
            z = gaps(batch, scales, directions)
            if z is not None:
                return [self._of(z)]
        partitions = negatives_lse(batch, scales, directions)
        logits = self._logits(batch, scales, directions)
        margins = [
            partition - logit for (partition, _), logit in zip(partitions, logits, strict=True)
        ]
        losses = [self._of(z) for z in margins]
        alone = [empty for _, empty in partitions]
        if alone.count(None) < len(alone):
            losses = [filled(loss, empty) for loss, empty in zip(losses, alone, strict=True)]
        if learned and self.training and torch.is_grad_enabled():
            parts = {}
            for d, z, empty in zip(directions, margins, alone, strict=True):
                tau = batch.values(self.strength, d)
                count = batch.log_negatives(d)
                log_g = (z - count).detach()
                parts[d] = Partition(log_g, log_g, log_g, empty, tau, count)
            return self._taught(batch, parts, losses)
        return losses

    def _taught(
        self, batch: Batch, parts: dict[Direction, Partition], losses: list[Tensor]
    ) -> list[Tensor]:
        """Return the losses with the gradient of the robust objective, and no other, for τ."""
        gradients = robust_gradients(batch, parts, self.strength.rho)
        if isinstance(self.strength, Individual):
            report(self.strength, batch, parts, gradients)
            return losses
        name = f"{type(self).__name__} with {self.strength!r}"
        taught = [
            loss + filled(gradients[d] * (part.tau - part.tau.detach()), part.alone)
            for loss, (d, part) in zip(losses, parts.items(), strict=True)
        ]
        return hold(taught, name)

    def _of(self, z: Tensor) -> Tensor:
        """Return an anchor's loss from its z; p_ii = sigmoid(−z)."""
        if self.force != "reweighted":
            return F.softplus(z, threshold=LOST)
        # softplus(z)/sigmoid(z) tends to 1 + exp(z)/2, and its gradient with the weight held is 1
        won = z.detach() < _WON
        value = torch.where(won, 1 + z.exp() / 2, F.softplus(z) / torch.sigmoid(z.clamp(min=_WON)))
        return z + (value - z).detach()


def _turned(cosine: Tensor, margin: Tensor) -> Tensor:
    """Return cos(θ + m), which goes on falling where θ + m leaves [0, π]."""
    squared = 1 - cosine.square()
    steep = squared > _FLAT
    sine = torch.where(steep, squared, torch.full_like(squared, _FLAT)).sqrt()
    sine = sine.where(steep, sine.new_zeros(()))
    turned = cosine * margin.cos() - sine * margin.sin()
    angle = torch.atan2(sine, cosine).detach() + margin.detach()
    turned = torch.where(angle > torch.pi, -2 - turned, turned)
    return torch.where(angle < 0, 2 - turned, turned)


@dataclass
class InfoNCESpec(Mixed, Forced, Weighted):
    """Softmax cross-entropy of each positive among all candidates (InfoNCE, CLIP)."""

    kind: ClassVar[str] = "infonce"
    title: ClassVar[str] = "InfoNCE"
    views: ClassVar[bool] = True

    force: Literal["plain", "equalized", "reweighted"] = "plain"  # type: ignore[assignment]
    """plain: as published; equalized: the control changes the shape of the force, not its size;
    reweighted: attraction never fades, as in MACL"""
    label_smoothing: Annotated[float, Range(0.0, 1.0, below=True)] = 0.0
    """share of the target that is spread evenly over all candidates (ALIGN: 0.1)"""
    margin: Annotated[float, Range(-2.0, 2.0)] = 0.0
    """by how much the cosine of a positive must win (InterCLR: -0.5 between images)"""
    margin_of: Annotated[Literal["cosine", "angle"], When("loss.margin")] = "cosine"
    """what the margin is measured in: the cosine, or the angle in radians (ArcFace)"""
    distill: Annotated[Share, OF_KEYS, OF_PAIRS] = 0.0
    """with a queue of pairs: share of each target that is the softmax of the momentum encoder's
    similarities (ALBEF: 0.4)"""
    distill_temperature: Annotated[float, Range(0.0, 1e3, above=True), When("loss.distill")] = 0.07
    """temperature of that softmax; the loss's own stays as it is"""
    distill_rise: Annotated[float, Range(0.0, 1e6), When("loss.distill")] = 0.0
    """epochs in which that share rises evenly from 0 (ALBEF: 1); 0: it is the same in all"""

    @property
    def teacher(self) -> tuple[float, float] | None:
        return (self.distill, self.distill_temperature) if self.distill else None

    @property
    def teacher_rise(self) -> float:
        return self.distill_rise

    def build(self, control: ControlSpec, context: Context) -> InfoNCE:
        return InfoNCE(
            control.build(context),
            label_smoothing=self.label_smoothing,
            margin=self.margin,
            margin_of=self.margin_of,
            **self.keywords(control, context),
        )
