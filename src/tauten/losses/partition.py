"""Partition sums of a batch's anchors, and their gradients for the temperatures.

Shapes: n anchors of one direction, with negatives j ≠ i that are neither positive nor ignored.
h_ij = s_ij − s_ii;  g_i = mean_j exp(h_ij/τ_i);  u_i an average of g_i over visits, or g_i itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tauten.controls import Direction, Individual
from tauten.losses.batch import ALONG, Batch, along
from tauten.losses.hard import log_add_exp
from tauten.observations import Samples
from tauten.pairwise import Number, Reduction, Scaled, Term, Tilted
from tauten.pairwise.objectives import Gap, GapAndHeight
from tauten.pairwise.reduction import How
from tauten.reads import ask

_SCALED = Scaled()
_GAP, _GAP_AND_HEIGHT = Gap(), GapAndHeight()


@dataclass(frozen=True)
class Partition:
    """The partitions of one direction.

    Attributes:
        log_g: (n,) log of the batch's estimate, differentiable.
        log_u: (n,) log of what the estimate is divided by, detached.
        log_average: (n,) log of the moving average that a table keeps; log_u without any constant.
        alone: (n,) bool, anchors without a negative, which contribute nothing, and rows that are no
            anchors; None if there are none.
        tau: (n,) or ().
        log_negatives: (n,) or () log of the number of negatives.
        heights: (n,) mean of h_ij under the weights exp(h_ij/τ_i), detached; None if not yet known.
    """

    log_g: Tensor
    log_u: Tensor
    log_average: Tensor
    alone: Tensor | None
    tau: Tensor
    log_negatives: Tensor
    heights: Tensor | None = None


def logits_lse(
    batch: Batch, scales: Sequence[Number], directions: Sequence[Direction], *, own: bool
) -> tuple[Tensor, ...]:
    """Return the log-sum-exp of the logits s·scale of each direction's anchors.

    Own negatives are among the candidates, and weights of negatives count.

    Args:
        batch: the checked batch.
        scales: 1/τ of each direction; the same object where the directions share it.
        directions: directions of the anchors.
        own: whether positives are left out.
    """
    if batch.repulsion is None:
        sums = batch.reduce(*_of_logits("logsumexp", batch, scales, directions), own=own)
    else:
        sums = _weighted(batch, scales, directions, own=own)
    if not batch.hard:
        return sums
    return tuple(
        with_own(batch, log_sum, scale, d)
        for log_sum, scale, d in zip(sums, scales, directions, strict=True)
    )


def lse_of_positives(
    batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
) -> tuple[Tensor, ...]:
    """Return the log-sum-exp of the logits of each anchor's positives, where labels make them."""
    return batch.over_positives(*_of_logits("logsumexp", batch, scales, directions))


def negatives_lse(
    batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
) -> list[tuple[Tensor, Tensor | None]]:
    """Return the log-sum-exp over the negatives of each direction's anchors, and who has none.

    The latter are (n,) bool, with rows that are no anchors, or None if each has a negative; their
    log-sum-exp is set to 0.
    """
    sums = logits_lse(batch, scales, directions, own=True)
    alone = [batch.empty(log_sum, d) for log_sum, d in zip(sums, directions, strict=True)]
    return [
        (log_sum if empty is None else log_sum.masked_fill(empty, 0.0), empty)
        for log_sum, empty in zip(sums, alone, strict=True)
    ]


def gaps(batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]) -> Tensor | None:
    """Return (2, N) z_i = LSE_{j≠i}(s_ij/τ_i) − s_ii/τ_i of both sides, if one step does."""
    return batch.both(_GAP, directions, scales)


def gaps_and_heights(
    batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
) -> tuple[Tensor, Tensor] | None:
    """Return :func:`gaps`, and (2, N) the mean of s_ij − s_ii under the weights, detached."""
    both = batch.both(_GAP_AND_HEIGHT, directions, scales)
    return None if both is None else (both[:2], both[2:].detach())


def filled(values: Tensor, empty: Tensor | None, number: float = 0.0) -> Tensor:
    """Return values (n,) of anchors, with a number for those that are empty."""
    return values if empty is None else values.masked_fill(empty, number)


def with_own(batch: Batch, log_sum: Tensor, scale: Number, direction: Direction) -> Tensor:
    """Return (n,) a log-sum-exp over candidates with the own negatives among them."""
    if direction not in batch.hard:
        return log_sum
    hard = batch.hard[direction]
    return hard.log_add_exp(log_sum, hard.similarity * _hard_scale(batch, scale, direction))


def _hard_scale(batch: Batch, scale: Number, direction: Direction) -> Tensor:
    if isinstance(scale, Tensor):  # no exchange between processes
        return scale if scale.dim() == 0 else scale.unsqueeze(1)
    return batch.at_hard(scale, direction)


def _weighted(
    batch: Batch, scales: Sequence[Number], directions: Sequence[Direction], *, own: bool
) -> tuple[Tensor, ...]:
    """Return the log-sum-exp in which each negative has a weight, and positives have 1."""
    weights = batch.repulsion_number
    numbers = of_anchors(batch, scales, directions)
    negatives = batch.reduce(
        *(
            Reduction.of(along(d), "logsumexp", Weighed(), number, weights)
            for number, d in zip(numbers, directions, strict=True)
        ),
        own=True,
    )
    if own:
        return negatives
    positives = lse_of_positives(batch, scales, directions)
    return tuple(
        log_add_exp(negative, positive.unsqueeze(1))
        for negative, positive in zip(negatives, positives, strict=True)
    )


def above_mean(
    batch: Batch,
    scales: Sequence[Number],
    positives: Sequence[Tensor],
    directions: Sequence[Direction],
) -> list[Tensor]:
    """Return how far the logit of each anchor's positive lies above the mean of its candidates.

    Args:
        batch: the checked batch.
        scales: 1/τ of each direction.
        positives: (n,) of each direction the mean logit of each anchor's positives.
        directions: directions of the anchors.
    """
    sums = batch.reduce(*_of_logits("sum", batch, scales, directions), own=True)
    gaps = []
    for total, scale, positive, d in zip(sums, scales, positives, directions, strict=True):
        if d in batch.hard:
            hard = batch.hard[d]
            total = total + hard.sum(hard.similarity * _hard_scale(batch, scale, d))
        negatives = batch.negatives(d)
        candidates = (negatives + batch.positive_counts(d)).clamp(min=1)
        gaps.append((negatives * positive - total) / candidates)
    return gaps


def _of_logits(
    how: How, batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
) -> list[Reduction]:
    numbers = of_anchors(batch, scales, directions)
    return [
        Reduction.of(ALONG[d], how, _SCALED, number)
        for number, d in zip(numbers, directions, strict=True)
    ]


def of_anchors(
    batch: Batch, scales: Sequence[Number], directions: Sequence[Direction]
) -> list[Number]:
    """Return numbers of anchors shaped for S; the same object where the directions share one."""
    first = scales[0]
    if isinstance(first, Tensor) and first.dim() == 0:
        return [first.view(1, 1)] * len(scales)
    return [batch.number(scale, d) for scale, d in zip(scales, directions, strict=True)]


@dataclass(frozen=True)
class Weighed(Term):
    """s·a + w, a logit whose exponential has the weight exp(w)."""

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        a, w = numbers
        return s * a + w


def need_negatives(loss: object, batch: Batch, directions: Sequence[Direction]) -> None:
    """Refuse a batch in which an anchor has no candidate besides its positive."""
    if min(2 if d in batch.hard else batch.candidates(d) for d in directions) < 2:
        raise ValueError(
            f"{type(loss).__name__} needs at least 2 pairs in a batch for a negative, "
            f"got {len(batch.x)} and {len(batch.y)} rows; drop the last incomplete batch"
        )


@torch.no_grad()
def robust_gradients(
    batch: Batch, parts: Mapping[Direction, Partition], rho: float
) -> dict[Direction, Tensor]:
    """Return G_i = ∂/∂τ_i of τ_i·log u_i + ρ·τ_i for each anchor, both directions from one product.

    G_i = log u_i + ρ − mean_j w_ij·h_ij/τ_i,  w_ij = exp(h_ij/τ_i)/u_i
    """
    known = {d: part.heights for d, part in parts.items() if part.heights is not None}
    heights = known if len(known) == len(parts) else _heights(batch, parts)
    gradients: dict[Direction, Tensor] = {}
    for d, part in parts.items():
        ratio = torch.exp(part.log_g - part.log_u)
        gradients[d] = part.log_u + rho - ratio * heights[d] / part.tau
    return gradients


def _heights(batch: Batch, parts: Mapping[Direction, Partition]) -> dict[Direction, Tensor]:
    """Return for each direction (n,) the mean of h_ij under the weights exp(h_ij/τ_i)."""
    reductions, logs = [], {}
    for d, part in parts.items():
        scale = part.tau.reciprocal().expand_as(part.log_u)
        logs[d] = batch.positives(d).detach() * scale + part.log_g + part.log_negatives
        numbers = batch.numbers((scale, logs[d]), d)
        reductions.append(Reduction.of(along(d), "sum", Tilted(), *numbers))
    sums = batch.reduce(*reductions, own=True)
    heights = {}
    for tilted, (d, part) in zip(sums, parts.items(), strict=True):
        if d in batch.hard:
            hard, scale = batch.hard[d], part.tau.reciprocal().expand_as(part.log_u)
            raised = (hard.similarity * scale.unsqueeze(1) - logs[d].unsqueeze(1)).exp()
            tilted = tilted + hard.sum(hard.similarity * raised)
        heights[d] = tilted - batch.positives(d).detach()
    return heights


def report(
    control: Individual,
    batch: Batch,
    parts: Mapping[Direction, Partition],
    gradients: Mapping[Direction, Tensor],
) -> None:
    """Tell the control the gradients of the anchors that have negatives."""
    for d, gradient in gradients.items():
        note_anchors(
            batch, d, parts[d].alone, gradient, partial(control.observe, batch.known_as(d))
        )


def note_anchors(
    batch: Batch,
    direction: Direction,
    empty: Tensor | None,
    values: Tensor,
    see: Callable[[Samples, Tensor], None],
) -> None:
    """Leave values (n,) of the anchors that are not empty for the next step.

    Args:
        batch: the checked batch.
        direction: direction of the anchors.
        empty: (n,) bool; None if none is.
        values: values of all anchors.
        see: takes the samples and values of those that count.
    """
    if batch.shard is not None:  # others note theirs
        values, empty = values[batch.shard], None if empty is None else empty[batch.shard]
    if empty is None:
        batch.notes.append(partial(see, batch.samples(direction), values))
        return
    left_out = empty

    def then(some: bool) -> None:
        samples, counted = batch.samples(direction), values
        if some:
            samples = Samples(samples.ids[~left_out])
            counted = values[~left_out]
        batch.notes.append(partial(see, samples, counted))

    ask(left_out.any(), then)
