"""Soft top-k loss: positives among the k candidates of the largest score (DEXML)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tauten.checks import whole
from tauten.controls import Control, Direction
from tauten.losses.batch import Batch, along
from tauten.losses.composition import Composition, Doubtful, Refused
from tauten.losses.of_positives import WithMargin, mean_logistic
from tauten.losses.options import SharedOptions
from tauten.losses.partition import logits_lse
from tauten.losses.queued import Queued
from tauten.losses.weighting import Weighted
from tauten.pairwise import Number, One, Reduction, Term, combine
from tauten.pairwise.once import hold
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: sweeps after which the threshold is taken as it is
_SWEEPS = 60
#: the log of nothing, which has a gradient of 0 and no infinity
_NOTHING = -1e30
#: steps in which the threshold is balanced where the step is so steep that sums lose it
_BALANCING = 20
_SHARPNESS = Refused("τ is the width of the step at the k-th place, no temperature of a likelihood")


@dataclass(frozen=True)
class Chosen(Term):
    """σ(s·a + u), how far a candidate belongs to the top k."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, u = numbers
        return torch.sigmoid(torch.addcmul(u, s, a))


@dataclass(frozen=True)
class Steepness(Term):
    """σ·(1 − σ) of s·a + u, the derivative of :class:`Chosen` by u."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, u = numbers
        share = torch.sigmoid(torch.addcmul(u, s, a))
        return share * (1 - share)


@dataclass(frozen=True)
class LogChosen(Term):
    """log σ(z) of candidates that are not among the chosen, z = s·a + u <= 0; far below else."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, u = numbers
        z = torch.addcmul(u, s, a)
        return torch.where(z > 0, torch.full_like(z, _NOTHING), F.logsigmoid(z))


@dataclass(frozen=True)
class LogLeft(Term):
    """log σ(−z) of candidates that are among the chosen, z = s·a + u > 0; far below else."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, u = numbers
        z = torch.addcmul(u, s, a)
        return torch.where(z > 0, F.logsigmoid(-z), torch.full_like(z, _NOTHING))


@dataclass(frozen=True)
class Above(Term):
    """1 where s·a + u > 0, to count the chosen."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, u = numbers
        return (torch.addcmul(u, s, a) > 0).to(s.dtype)


class SoftTopK(WithMargin):
    """Likelihood that an anchor's positives are among its k best candidates (DEXML, ICLR 2024).

    ℓ_i = −1/|P(i)| Σ_{p∈P(i)} log σ(s_ip/τ_i + u_i),  u_i such that Σ_j σ(s_ij/τ_i + u_i) = k

    j runs over all candidates. The gradient is that of the exact u_i (implicit derivative). τ_i is
    1/α of the paper: the width of the step, below which the k best count alone. An anchor with no
    more than k candidates contributes 0.

    Args:
        temperature: a control or a number; must stay > 0 over all steps and samples.
        k: >= 1, fewer than the candidates of an anchor.
        margin: a control or a number m_i in units of s, subtracted from each s_ip alone.

    The other arguments are those of :class:`InfoNCE`, without ``force``.

    Raises:
        ValueError: a temperature that can reach 0 or below or is learned, a k that is no whole
            number above 0, a batch with no more than k candidates.
    """

    composition = Composition(
        learned=_SHARPNESS,
        learned_anchor=_SHARPNESS,
        dual=Refused("it has no partition to learn τ from"),
        pair=Doubtful("scores of a row are no longer measured alike, which may change its top k"),
    )

    def __init__(
        self,
        temperature: Control | float,
        k: int = 1,
        *,
        margin: Control | float | None = None,
        **options: Unpack[SharedOptions],
    ) -> None:
        super().__init__(temperature, margin=margin, **options)
        self.k = whole("k", k, 1)

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        most = min(batch.candidates(d) for d in directions)
        if most <= self.k:
            raise ValueError(
                f"SoftTopK with k={self.k} needs more than k candidates for each anchor, got "
                f"{most}: lower k, or take larger batches"
            )
        scales = batch.scales(self.strength, directions)
        batch.positives(directions[0])  # units of the sides, before a sweep without gradients
        thresholds, all_chosen = self._thresholds(batch, scales, directions)
        offsets = [
            self.margins(batch, scale, d) - threshold
            for threshold, scale, d in zip(thresholds, scales, directions, strict=True)
        ]
        losses = mean_logistic(batch, scales, offsets, directions)
        counted = [
            loss.masked_fill(batch.without_anchor(out, d), 0.0)
            for loss, out, d in zip(losses, all_chosen, directions, strict=True)
        ]
        return hold(counted, type(self).__name__)

    def _thresholds(
        self, batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return u of each direction's anchors, with its gradient, and who has k or fewer."""
        with torch.no_grad():
            start, all_chosen = self._solved(batch, scales, directions)
        chosen = self._sums((Chosen(),), batch, scales, start, directions)
        thresholds = []
        with torch.no_grad():
            steep = self._sums((Steepness(),), batch, scales, start, directions)
        for value, total, slope, out in zip(start, chosen, steep, all_chosen, strict=True):
            # a Newton step from the solution: no change of value, and the implicit derivative
            step = (total - self.k) / slope.masked_fill(out | (slope <= 0), 1.0)
            thresholds.append(value - step.masked_fill(out, 0.0))
        flat = self._flat(batch, scales, start, steep, directions)
        if flat is not None:
            thresholds = self._balanced(batch, scales, start, thresholds, flat, directions)
        return thresholds, all_chosen

    @torch.no_grad()
    def _flat(
        self,
        batch: Batch,
        scales: Sequence[Number],
        values: Sequence[Tensor],
        steep: Sequence[Tensor],
        directions: Sequence[Direction],
    ) -> list[Tensor] | None:
        """Return whose σ all lie so near 0 and 1 that their sum does not tell u; None if nobody's.

        Such an anchor has k candidates well above and all others well below.
        """
        lost = self.k * torch.finfo(batch.dtype).eps ** 0.5
        counts = self._sums((Above(),), batch, scales, values, directions)
        flat = [
            (slope < lost) & (count == self.k) for slope, count in zip(steep, counts, strict=True)
        ]
        some = torch.stack([rows.any() for rows in flat]).any().to(batch.dtype).reshape(1)
        if batch.ranks is not None:
            some = batch.ranks.max_(some)
        return flat if bool(some) else None

    def _balanced(
        self,
        batch: Batch,
        scales: Sequence[Number],
        values: Sequence[Tensor],
        thresholds: list[Tensor],
        flat: Sequence[Tensor],
        directions: Sequence[Direction],
    ) -> list[Tensor]:
        """Return the thresholds, those of flat anchors from the logs of both sides.

        Σ_j σ(z_j) = k is Σ_{rest} σ(z_j) = Σ_{top k} σ(−z_j), whose logs are as good as straight
        lines in u, with slopes near 1 and −1.
        """
        values = list(values)
        with torch.no_grad():
            for _ in range(_BALANCING):
                steps = self._steps(batch, scales, values, directions)
                values = [
                    value - step.where(rows, 0.0)
                    for value, step, rows in zip(values, steps, flat, strict=True)
                ]
                largest = (
                    torch.stack(
                        [
                            step.where(rows, 0.0).abs().max()
                            for step, rows in zip(steps, flat, strict=True)
                        ]
                    )
                    .max()
                    .reshape(1)
                )
                if batch.ranks is not None:
                    largest = batch.ranks.max_(largest)
                if float(largest) <= 1e3 * torch.finfo(batch.dtype).eps:
                    break
        steps = self._steps(batch, scales, values, directions)
        return [
            torch.where(rows, value - step, threshold)
            for rows, value, step, threshold in zip(flat, values, steps, thresholds, strict=True)
        ]

    def _steps(
        self,
        batch: Batch,
        scales: Sequence[Number],
        values: Sequence[Tensor],
        directions: Sequence[Direction],
    ) -> list[Tensor]:
        """Return Newton's steps of log Σ_{rest} σ(z) − log Σ_{top} σ(−z) in u, with a gradient."""
        sums = batch.reduce(
            *(
                Reduction.of(
                    along(d), "logsumexp", term, batch.number(scale, d), batch.number(value, d)
                )
                for term in (LogChosen(), LogLeft())
                for scale, value, d in zip(scales, values, directions, strict=True)
            ),
            own=False,
        )
        count = len(values)
        # where the two sides have one candidate each, far from 0, the slopes are exactly 1 and −1
        return [(rest - top) / 2 for rest, top in zip(sums[:count], sums[count:], strict=True)]

    def _solved(
        self, batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return u by Newton steps inside an interval that shrinks around the solution."""
        counts = batch.reduce(
            *(Reduction(along(d), "sum", One(), ()) for d in directions), own=False
        )
        all_chosen = [count <= self.k for count in counts]
        level = [
            math.log(self.k) - (count - self.k).masked_fill(out, 1.0).log()
            for count, out in zip(counts, all_chosen, strict=True)
        ]
        lower = [combine(torch.neg, scale) for scale in scales]
        ends = (logits_lse(batch, side, directions, own=False) for side in (scales, lower))
        above, below = (
            [end.masked_fill(out, 0.0) for end, out in zip(each, all_chosen, strict=True)]
            for each in ends
        )
        low = [at - top for at, top in zip(level, above, strict=True)]
        high = [at + bottom for at, bottom in zip(level, below, strict=True)]
        values = [(a + b) / 2 for a, b in zip(low, high, strict=True)]
        for _ in range(_SWEEPS):
            sums = self._sums((Chosen(), Steepness()), batch, scales, values, directions)
            chosen, steep = sums[: len(values)], sums[len(values) :]
            moved = values[0].new_zeros(1)
            for at, (total, slope) in enumerate(zip(chosen, steep, strict=True)):
                much = total > self.k
                high[at] = torch.where(much, values[at], high[at])
                low[at] = torch.where(much, low[at], values[at])
                newton = values[at] - (total - self.k) / slope
                inside = (newton > low[at]) & (newton < high[at])
                following = torch.where(inside, newton, (low[at] + high[at]) / 2)
                change = (following - values[at]).abs().masked_fill(all_chosen[at], 0.0)
                moved = torch.cat([moved, change]).max().reshape(1)
                values[at] = following
            if batch.ranks is not None:
                moved = batch.ranks.max_(moved)
            if float(moved) <= 8 * torch.finfo(batch.dtype).eps:
                break
        return values, all_chosen

    def _sums(
        self,
        terms: Sequence[Term],
        batch: Batch,
        scales: Sequence[Number],
        thresholds: Sequence[Tensor],
        directions: Sequence[Direction],
    ) -> tuple[Tensor, ...]:
        return batch.reduce(
            *(
                Reduction.of(along(d), "sum", term, batch.number(scale, d), batch.number(value, d))
                for term in terms
                for scale, value, d in zip(scales, thresholds, directions, strict=True)
            ),
            own=False,
        )


@dataclass
class SoftTopKSpec(Queued, Weighted):
    """Positives among the k candidates of the largest score (soft top-k, DEXML)."""

    kind: ClassVar[str] = "softtopk"
    title: ClassVar[str] = "soft top-k"
    views: ClassVar[bool] = True

    k: Annotated[int, Range(1)] = 1
    """among how many of the best candidates of an anchor its positives are to be"""

    def build(self, control: ControlSpec, context: Context) -> SoftTopK:
        return SoftTopK(
            control.build(context),
            self.k,
            **self.keywords(control, context),
        )
