"""Schedules over training, the same for every sample: the cosine of TS and others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tauten.checks import whole
from tauten.controls.base import Control, Range, Scheduled, finite
from tauten.spec import Context, ControlSpec, Level, Periods


def _positive_steps(name: str, value: float) -> float:
    value = finite(name, value)
    if value <= 0:
        raise ValueError(f"{name} must be a positive number of steps, got {value:g}")
    return value


class Cosine(Scheduled):
    """A cosine over training: ``high`` at step 0, ``low`` half a period later.

    value(t) = (high + low)/2 + (high − low)/2 · cos(2πt/period + phase)

    TS (Kukleva et al., ICLR 2023) is by epochs, counted from 1: with n steps in an epoch it is
    ``low=0.1, high=1, period=400·n, phase=2π/400, every=n``; its ``t_max`` is half of the period.
    As a summand a cosine may be negative.

    Args:
        low: smallest value.
        high: largest value.
        period: optimiser steps of one oscillation, > 0.
        phase: offset of the phase in radians; π starts at ``low``.
        every: steps for which a value holds, >= 1; the steps of an epoch for a schedule by epoch.

    Raises:
        ValueError: low > high, a period that is not positive, ``every`` below 1, anything not
            finite.
    """

    def __init__(
        self, low: float, high: float, period: float, phase: float = 0.0, every: int = 1
    ) -> None:
        super().__init__()
        self.low, self.high = finite("low", low), finite("high", high)
        if low > high:
            raise ValueError(f"Cosine needs low <= high, got low={low} > high={high}")
        self.period = _positive_steps("period", period)
        self.phase = finite("phase", phase)
        self.every = whole("every", every, 1)

    def number(self, step: int) -> float:
        step -= step % self.every
        angle = 2 * math.pi * math.fmod(step, self.period) / self.period + self.phase
        return (self.high + self.low) / 2 + (self.high - self.low) / 2 * math.cos(angle)

    def range(self) -> Range:
        return self.low, self.high

    def __repr__(self) -> str:
        phase = f", phase={self.phase:g}" if self.phase else ""
        every = f", every={self.every}" if self.every > 1 else ""
        return f"Cosine({self.low:g}, {self.high:g}, period={self.period:g}{phase}{every})"


class Anneal(Scheduled):
    """One monotone half period of a cosine from ``start`` to ``end``, then ``end``.

    value(t) = end + (start − end)/2 · (1 + cos(π·min(t/steps, 1)))

    Args:
        start: value at step 0.
        end: value from step ``steps`` on.
        steps: optimiser steps of the way, > 0.
        every: steps for which a value holds, >= 1; the steps of an epoch for a schedule by epoch.

    Raises:
        ValueError: ``steps`` is not positive, ``every`` is below 1, anything not finite.
    """

    def __init__(self, start: float, end: float, steps: float, every: int = 1) -> None:
        super().__init__()
        self.start, self.end = finite("start", start), finite("end", end)
        self.duration = _positive_steps("steps", steps)
        self.every = whole("every", every, 1)

    def number(self, step: int) -> float:
        step -= step % self.every
        share = (1 + math.cos(math.pi * min(step / self.duration, 1.0))) / 2
        return self.end + (self.start - self.end) * share

    def range(self) -> Range:
        return min(self.start, self.end), max(self.start, self.end)

    def __repr__(self) -> str:
        every = f", every={self.every}" if self.every > 1 else ""
        return f"Anneal({self.start:g}, {self.end:g}, steps={self.duration:g}{every})"


@dataclass
class CosineSpec(ControlSpec):
    """TS: one value for all samples, between two ends over training."""

    kind: ClassVar[str] = "cosine"
    title: ClassVar[str] = "cosine"
    as_margin: ClassVar[Mapping[str, float]] = {"low": 0.1, "high": 0.3}

    low: Level = 0.01
    """lowest value"""
    high: Level = 1.0
    """highest value, at the start"""
    oscillations: Periods = 5.0
    """full periods over the training"""
    every: Literal["step", "epoch"] = "step"
    """epoch holds each value for an epoch, and counts epochs from 1, as TS does"""

    @property
    def scheduled(self) -> bool:
        return True

    def build(self, context: Context) -> Control:
        period = context.total_steps / self.oscillations
        if self.every == "step":
            return Cosine(self.low, self.high, period)
        epoch = context.per_epoch
        return Cosine(self.low, self.high, period, phase=2 * math.pi * epoch / period, every=epoch)

    def period(self, total_steps: int) -> float:
        return total_steps / self.oscillations

    def held(self, per_epoch: int) -> int:
        return per_epoch if self.every == "epoch" else 1


@dataclass
class AnnealSpec(ControlSpec):
    """One value for all samples, that falls once over training."""

    kind: ClassVar[str] = "anneal"
    title: ClassVar[str] = "anneal"
    as_margin: ClassVar[Mapping[str, float]] = {"low": 0.1, "high": 0.3}

    low: Level = 0.01
    """value at the end"""
    high: Level = 1.0
    """value at the start"""

    @property
    def scheduled(self) -> bool:
        return True

    def build(self, context: Context) -> Control:
        return Anneal(self.high, self.low, context.total_steps)
