"""Contrastive attraction and contrastive repulsion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor

from tauten.checks import finite
from tauten.controls import Control, Direction, as_control
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch, along
from tauten.losses.composition import Composition, Refused, check_composition, check_range
from tauten.losses.options import SharedOptions
from tauten.losses.partition import need_negatives
from tauten.losses.queued import Queued
from tauten.losses.weighting import Weighted
from tauten.pairwise import Number, Offset, Reduction, Term, combine
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack

_NO_LIKELIHOOD = Refused(
    "the loss falls as its temperatures grow, so that a learned one only loses its effect"
)


@dataclass(frozen=True)
class Distant(Term):
    """(1 − s)·exp((s − 1)·a − k), half a squared distance under the softmax of (s − 1)·a."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, k = numbers
        # above 0 by rounding alone, but for pairs that a mask leaves out
        return (1 - s) * torch.exp(((s - 1) * a - k).clamp(max=1.0))


def _twice(number: Tensor) -> Tensor:
    return 2 * number


def _minus_twice(number: Tensor) -> Tensor:
    return -2 * number


class CACR(ContrastiveLoss):
    """Distant positives attract more and close negatives repel more, each among their own.

    ℓ_i = α·Σ_{p∈P(i)} π⁺_ip·d_ip − β·Σ_{n∉P(i)} π⁻_in·d_in,  d = ‖x − y‖² = 2 − 2s
    π⁺_i = softmax_p(d_ip/τ⁺_i),  π⁻_i = softmax_n(−d_in/τ_i)

    The weights take part in the gradient. τ = 1/t⁻ and τ⁺ = 1/t⁺ of the paper, so that large ones
    give equal weights; published: 1 and 1. With one positive it is alignment plus repulsion. Zheng
    et al. 2021, "Contrastive Attraction and Contrastive Repulsion for Representation Learning". An
    anchor without a negative contributes 0.

    Args:
        temperature: τ of the negatives, a control or a number; must stay > 0.
        positive_temperature: τ⁺ of the positives, the same; it has an effect with ``labels=``.
        attraction: α >= 0.
        repulsion: β >= 0.

    The other arguments are those of :class:`InfoNCE`, without ``force`` and ``normalize``.

    Raises:
        ValueError: a temperature that can reach 0 or below, or one that is learned.
    """

    composition = Composition(
        learned=_NO_LIKELIHOOD,
        learned_anchor=_NO_LIKELIHOOD,
        dual=Refused("it has no partition to learn τ from"),
    )

    def __init__(
        self,
        temperature: Control | float = 1.0,
        positive_temperature: Control | float = 1.0,
        *,
        attraction: float = 1.0,
        repulsion: float = 1.0,
        **options: Unpack[SharedOptions],
    ) -> None:
        if not options.get("normalize", True):
            raise ValueError(
                "CACR takes squared distances of rows of length 1: leave out normalize=False"
            )
        super().__init__(temperature, **options)
        self.positive = as_control(positive_temperature)
        check_range("CACR's positive_temperature", self.positive, 0.0, strict=True)
        check_composition("CACR", "positive_temperature", self.positive, self.composition)
        self.attraction = finite("attraction", attraction)
        self.repulsion = finite("repulsion", repulsion)
        if min(self.attraction, self.repulsion) < 0:
            raise ValueError(
                f"attraction and repulsion must be >= 0, got {attraction} and {repulsion}"
            )
        self._use_controls()

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        need_negatives(self, batch, directions)
        scales = batch.scales(self.strength, directions)
        far, alone = self._mean_distances(
            batch,
            [combine(_twice, batch.number(s, d)) for s, d in _both(scales, directions)],
            directions,
            positives=False,
        )
        near = [2 - 2 * batch.positives(d) for d in directions]
        if batch.relation.labels is not None:
            scales = batch.scales(self.positive, directions)
            near, _ = self._mean_distances(
                batch,
                [combine(_minus_twice, batch.number(s, d)) for s, d in _both(scales, directions)],
                directions,
                positives=True,
            )
        return [
            (self.attraction * pull - self.repulsion * push).masked_fill(out, 0.0)
            for pull, push, out in zip(near, far, alone, strict=True)
        ]

    def _mean_distances(
        self,
        batch: Batch,
        scales: Sequence[Number],
        directions: Sequence[Direction],
        *,
        positives: bool,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return Σ π·d of each anchor over its positives or its negatives, and who has none."""
        one = torch.ones(1, 1, device=batch.x.device, dtype=batch.dtype)

        def reduced(*reductions: Reduction) -> tuple[Tensor, ...]:
            if positives:
                return batch.over_positives(*reductions)
            return batch.reduce(*reductions, own=True)

        partitions = reduced(
            *(
                Reduction.of(along(d), "logsumexp", Offset(), scale, one)
                for scale, d in _both(scales, directions)
            )
        )
        alone = [
            batch.without_anchor(torch.isneginf(part), d)
            for part, d in _both(partitions, directions)
        ]
        halves = reduced(
            *(
                Reduction.of(
                    along(d), "sum", Distant(), scale, batch.number(part.masked_fill(out, 0.0), d)
                )
                for scale, part, out, d in zip(scales, partitions, alone, directions, strict=True)
            )
        )
        return [2 * half for half in halves], alone


def _both(
    values: Sequence[Any], directions: Sequence[Direction]
) -> Iterable[tuple[Any, Direction]]:
    return zip(values, directions, strict=True)


@dataclass
class CACRSpec(Queued, Weighted):
    """Distant positives attract more, close negatives repel more (CACR)."""

    kind: ClassVar[str] = "cacr"
    title: ClassVar[str] = "CACR"
    views: ClassVar[bool] = True

    positive_temperature: Annotated[float, Range(0.0, 1e3, above=True)] = 1.0
    """of an anchor with several positives; the control sets that of the negatives"""
    attraction: Annotated[float, Range(0.0, 1e3)] = 1.0
    """weight of the attraction"""
    repulsion: Annotated[float, Range(0.0, 1e3)] = 1.0
    """weight of the repulsion"""

    def build(self, control: ControlSpec, context: Context) -> CACR:
        return CACR(
            control.build(context),
            self.positive_temperature,
            attraction=self.attraction,
            repulsion=self.repulsion,
            **self.keywords(control, context),
        )
