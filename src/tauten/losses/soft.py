"""Cross-entropy against targets that are spread over several candidates.

Shapes: n anchors of one direction. q_ij = w_ij / Σ_k w_ik, over candidates that are not ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.checks import few
from tauten.controls import Direction
from tauten.losses.batch import Batch, along
from tauten.losses.partition import of_anchors, with_own
from tauten.pairwise import Number, Reduction, Scaled, Term
from tauten.pairwise.normal import least
from tauten.pairwise.numbers import Rule
from tauten.pairwise.terms import Slopes


def soft_logits(
    batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
) -> list[tuple[Tensor, Tensor]]:
    """Return for each direction the partition, and the mean logit Σ_j q_ij·s_ij/τ_ij: (n,) both.

    Args:
        batch: with targets.
        scales: 1/τ of each direction; the same object where the directions share it.
        directions: directions of the anchors.

    Raises:
        ValueError: an anchor without any weight, or weights below 0.
    """
    numbers = of_anchors(batch, scales, directions)
    sums = _in_one_sweep(batch, numbers, scales, directions)
    if sums is None:
        sums = _in_two_sweeps(batch, numbers, directions)
    partitions, logits = sums
    return [
        (with_own(batch, log_sum, scale, d), logit)
        for log_sum, logit, scale, d in zip(partitions, logits, scales, directions, strict=True)
    ]


#: partitions without own negatives, and mean logits, of each direction
_Found = tuple[Sequence[Tensor], Sequence[Tensor]]


def _in_one_sweep(
    batch: Batch,
    numbers: Sequence[Number],
    scales: Sequence[Number],
    directions: Sequence[Direction],
) -> _Found | None:
    """Return partitions and (Σ_j w_ij·s_ij) / (Σ_j w_ij·τ_i).

    None where τ differs between pairs, or where a sum of weights leaves the range of the numbers.
    """
    alone = [scale for scale in scales if isinstance(scale, Tensor)]
    if len(alone) < len(scales):
        return None
    rule, known = batch.target_weight.rule, batch.target_weight.numbers
    sums = batch.reduce(
        *_logits(numbers, directions),
        *(Reduction(along(d), "sum", Weighted(rule), known) for d in directions),
        *(Reduction(along(d), "sum", Total(rule), known) for d in directions),
        own=False,
    )
    count = len(directions)
    totals = [total.detach() for total in sums[2 * count :]]
    if not _in_range(batch, totals, directions):
        return None
    logits = [
        weighted / total.where(total > 0, 1.0) * scale
        for scale, weighted, total in zip(alone, sums[count : 2 * count], totals, strict=True)
    ]
    return sums[:count], logits


def _in_range(batch: Batch, totals: Sequence[Tensor], directions: Sequence[Direction]) -> bool:
    """Return whether every sum of weights has its digits, on all processes."""
    lowest = least(totals[0].dtype)
    bad = torch.stack(
        [
            ((total != total.clamp(lowest, 1 / lowest)) & _paired(batch, d)).sum()
            for total, d in zip(totals, directions, strict=True)
        ]
    ).sum()
    return not bool(bad if batch.ranks is None else batch.ranks.sum_(bad))


def _in_two_sweeps(
    batch: Batch, numbers: Sequence[Number], directions: Sequence[Direction]
) -> _Found:
    """Return partitions and mean logits, with the log-sum-exp of the weights known first."""
    weights = batch.target_number
    each = (Reduction.of(along(d), "logsumexp", LogWeight(), weights) for d in directions)
    logs = [log.detach() for log in batch.reduce(*each, own=False)]
    _check(batch, logs, directions)
    sums = batch.reduce(
        *_logits(numbers, directions),
        *(
            Reduction.of(
                along(d),
                "sum",
                SoftLogit(),
                number,
                weights,
                batch.number(log.masked_fill(log.isneginf(), torch.inf), d),
            )
            for number, log, d in zip(numbers, logs, directions, strict=True)
        ),
        own=False,
    )
    count = len(directions)
    return sums[:count], sums[count:]


def _logits(numbers: Sequence[Number], directions: Sequence[Direction]) -> list[Reduction]:
    return [
        Reduction.of(along(d), "logsumexp", Scaled(), number)
        for number, d in zip(numbers, directions, strict=True)
    ]


def _check(batch: Batch, logs: Sequence[Tensor], directions: Sequence[Direction]) -> None:
    """Refuse anchors without a target, on all processes if on one."""
    bad = [
        (d, ~log.isfinite() & _paired(batch, d)) for d, log in zip(directions, logs, strict=True)
    ]
    lacking = torch.stack([rows.sum() for _, rows in bad]).sum()
    if batch.ranks is not None:
        lacking = batch.ranks.sum_(lacking)
    if not bool(lacking):
        return
    for d, rows in bad:
        at = rows.nonzero().squeeze(1).tolist()
        if at:
            side = "x" if batch.known_as(d) == "x2y" else "y"
            raise ValueError(
                f"targets= give {len(at)} anchors of {side} no candidate, or weights that are NaN, "
                f"infinite or below 0: rows {few(at)}; each anchor needs a weight > 0 that ignore= "
                "and same= leave in"
            )
    raise ValueError(f"targets= give {int(lacking)} anchors of other processes no candidate")


def _paired(batch: Batch, direction: Direction) -> Tensor | bool:
    """Return (n,) the anchors that need a target; True for all."""
    paired = batch.paired(direction)
    return True if paired is None else paired


@dataclass(frozen=True)
class Weighted(Term):
    """s·w, with w a rule of the pair that has no gradient."""

    rule: Rule

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mul(s, self.rule(s, *numbers), out=out)

    def slopes(self, s: Tensor, numbers: Sequence[Tensor], needs: Sequence[bool]) -> Slopes:
        return Slopes(self.rule(s, *numbers), None, [None] * len(numbers))


@dataclass(frozen=True)
class Total(Term):
    """w, a rule of the pair that has no gradient."""

    rule: Rule

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        weight = self.rule(s, *numbers)
        return weight.clone() if out is None else out.copy_(weight)

    def slopes(self, s: Tensor, numbers: Sequence[Tensor], needs: Sequence[bool]) -> Slopes:
        return Slopes(torch.zeros_like(s), None, [None] * len(numbers))


@dataclass(frozen=True)
class LogWeight(Term):
    """w, the log of the weight of a pair."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.zeros_like(s) + numbers[0]


@dataclass(frozen=True)
class SoftLogit(Term):
    """s·a · exp(w − c); with c the log-sum-exp of w its sum is the mean logit of the target."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, w, c = numbers
        # a pair that is left out may have more than its share
        return s * a * torch.exp((w - c).clamp(max=0))
