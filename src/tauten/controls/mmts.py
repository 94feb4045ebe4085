"""MM-TS: a cosine over training and the shift of each cluster, whole and taken apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tauten.controls.base import Control, finite
from tauten.controls.cluster_shift import ClusterShift, Counts, shuffled_counts
from tauten.controls.constant import Constant
from tauten.controls.schedules import Cosine
from tauten.spec import Context, ControlSpec, Level, Periods


def mmts(
    counts: Counts,
    alpha: float,
    shift: tuple[float, float],
    period: float,
    *,
    scale: str = "linear",
) -> Control:
    """Build MM-TS: a zero-mean cosine over training plus a shift by cluster size (WACV 2026).

    τ_i(t) = α/2 · cos(2πt/P) + sh(n_i),  in [shift low − α/2, shift high + α/2]

    Use it as the temperature of a softmax loss or the margin of a max-margin loss. A temperature
    must stay positive, so a loss refuses shift low <= α/2.

    Args:
        counts: (num_samples,) size of each sample's caption cluster, by data set index; or a pair
            (counts of x, counts of y) where the sides have ids of their own.
        alpha: peak-to-peak amplitude of the oscillation, >= 0.
        shift: (low, high), the level of the rarest and of the densest sample.
        period: optimiser steps of one oscillation, > 0; published: a fifth of the training.
        scale: how counts grow, see :class:`ClusterShift`; published: ``"linear"``.
    """
    alpha = finite("alpha", alpha)
    if alpha < 0:
        raise ValueError(f"alpha must be >= 0, got {alpha:g}")
    if not isinstance(shift, (tuple, list)) or len(shift) != 2:
        raise ValueError(f"shift must be two numbers (low, high), got {shift!r}")
    return Cosine(-alpha / 2, alpha / 2, period) + ClusterShift(counts, *shift, scale=scale)


@dataclass
class MMTSSpec(ControlSpec):
    """MM-TS: a cosine over training plus a shift by class size."""

    kind: ClassVar[str] = "mmts"
    title: ClassVar[str] = "MM-TS"
    as_margin: ClassVar[Mapping[str, float]] = {"alpha": 0.2, "shift_low": 0.17, "shift_high": 0.3}

    alpha: Level = 0.04
    """peak-to-peak amplitude of the oscillation"""
    shift_low: Level = 0.05
    """level of the rarest class"""
    shift_high: Level = 0.09
    """level of the densest class"""
    oscillations: Periods = 5.0
    """full periods over the training"""
    scale: Literal["linear", "log", "sqrt"] = "linear"
    """how class size enters the shift; published: linear"""
    part: Literal["both", "shift", "oscillation"] = "both"
    """shift and oscillation, or one of them with the mean of the other"""
    sizes: Literal["true", "shuffled", "noise", "reversed"] = "true"
    """which class has which shift: by its size; by the size of a class drawn at random, with the
    run's seed; noise: each sample that of another sample drawn at random, whatever its class;
    mirrored on a log scale, so that rare classes have the high values. The mean over samples
    stays"""

    @property
    def scheduled(self) -> bool:
        return self.sizes not in ("shuffled", "noise")

    def build(self, context: Context) -> Control:
        return self.schedule(context)

    def period(self, total_steps: int) -> float | None:
        return None if self.part == "shift" else total_steps / self.oscillations

    def schedule(self, context: Context) -> Control:
        """Return the schedule, or the parts of it that are asked for, of the same mean.

        Raises:
            ValueError: counts, or labels for shuffled sizes, that are not known.
        """
        counts = context.class_sizes(f"control.kind={self.kind}")
        ends, scale = (self.shift_low, self.shift_high), self.scale
        period, sides = context.total_steps / self.oscillations, context.of_sides(counts)
        if self.part == "both" and self.sizes == "true":
            return mmts(sides, self.alpha, ends, period, scale=scale)
        oscillation = Cosine(-self.alpha / 2, self.alpha / 2, period)
        shift: Control = ClusterShift(sides, *ends, scale=scale)
        level = sample_mean(shift, counts, 1)
        if self.part == "oscillation":
            return oscillation + level
        if self.sizes == "reversed":
            shift = level / sample_mean(1 / shift, counts, 1) / shift
        elif self.sizes in ("shuffled", "noise"):
            drawn = ClusterShift(context.of_sides(self._drawn(counts, context)), *ends, scale=scale)
            shift = drawn + (level - sample_mean(drawn, counts, 1))
        if self.part == "shift":
            none = torch.zeros(1, dtype=torch.int64)
            return shift + oscillation.mean(none, context.total_steps)
        return oscillation + shift

    def _drawn(self, counts: Tensor, context: Context) -> Tensor:
        """Return counts exchanged at random, between samples or between classes."""
        if self.sizes == "noise":
            generator = torch.Generator().manual_seed(context.seed)
            return counts[torch.randperm(len(counts), generator=generator)]
        if context.labels is None:
            raise ValueError(
                "control.sizes=shuffled exchanges the sizes of classes: give the class of each "
                "sample as labels"
            )
        return shuffled_counts(counts, context.labels, context.seed)


@dataclass
class MatchedSpec(MMTSSpec):
    """The constant equal to the mean of an MM-TS schedule over samples and steps."""

    kind: ClassVar[str] = "matched"
    title: ClassVar[str] = "constant"

    @property
    def scheduled(self) -> bool:
        return False

    def build(self, context: Context) -> Control:
        schedule = self.schedule(context)
        return Constant(sample_mean(schedule, context.counts, context.total_steps))

    def period(self, total_steps: int) -> float | None:
        return None


def sample_mean(control: Control, counts: Tensor | None, steps: int) -> float:
    """Return the mean of a control over all training samples and these steps."""
    return control.mean(torch.arange(0 if counts is None else len(counts)), steps)
