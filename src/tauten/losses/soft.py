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


def soft_logits(
    batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
) -> list[tuple[Tensor, Tensor]]:
    """Return for each direction the partition, and the mean logit Σ_j q_ij·s_ij/τ_ij: (n,) both.

    Args:
        batch: with targets.
        scales: 1/τ of each direction; the same object where the directions share it.
        directions: of the anchors.

    Raises:
        ValueError: an anchor without any weight, or weights below 0.
    """
    weights, numbers = batch.target_number, of_anchors(batch, scales, directions)
    each = (Reduction.of(along(d), "logsumexp", LogWeight(), weights) for d in directions)
    logs = [log.detach() for log in batch.reduce(*each, own=False)]
    _check(batch, logs, directions)
    sums = batch.reduce(
        *(
            Reduction.of(along(d), "logsumexp", Scaled(), number)
            for number, d in zip(numbers, directions, strict=True)
        ),
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
    partitions = [
        with_own(batch, log_sum, scale, d)
        for log_sum, scale, d in zip(sums[:count], scales, directions, strict=True)
    ]
    return list(zip(partitions, sums[count:], strict=True))


def _check(batch: Batch, logs: Sequence[Tensor], directions: Sequence[Direction]) -> None:
    """Refuse anchors without a target, on all processes if on one."""
    bad = [
        (d, ~log.isfinite() if (paired := batch.paired(d)) is None else ~log.isfinite() & paired)
        for d, log in zip(directions, logs, strict=True)
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
