"""Temperatures that follow the similarities of the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from tauten.checks import flag
from tauten.controls.anchors import Anchors
from tauten.controls.base import BatchControl, Range, finite
from tauten.pairwise.numbers import Number, PairNumber
from tauten.spec import Context, ControlSpec, Level, Similarity
from tauten.spec import Range as Interval

#: points of [0, 1] at which a logit s/τ(s) is checked to rise
_GRID = 2001

#: (s + 1)/2 is kept above this, where a cosine rounds below −1
_SMALLEST = 1e-6


class DySTreSS(BatchControl):
    """A temperature for each pair, a cosine of its similarity (Manna et al., 2023).

    τ_ij = low + (high − low)/2 · (1 + cos(π·(s_ij − peak)/width)),  and high where s_ij ≥ peak

    No gradient passes through τ. With peak = width = 1, as published, τ is high at s = ±1 and low
    at 0; the shifted variant has peak 0.4 and width 0.7.

    Args:
        low: smallest temperature, > 0; published: 0.1 (ImageNet), 0.07 (CIFAR).
        high: largest temperature; published: 0.2.
        peak: similarity from which on τ is high.
        width: distance from the peak to the lowest temperature, > 0.

    Raises:
        ValueError: low > high, a width that is not positive, or a logit s/τ(s) that falls
            somewhere in [0, 1]: there a more similar pair would count as less similar.
    """

    granularity = "pair"
    needs_cosine = True

    def __init__(
        self, low: float = 0.1, high: float = 0.2, peak: float = 1.0, width: float = 1.0
    ) -> None:
        super().__init__()
        self.low, self.high = finite("low", low), finite("high", high)
        self.peak, self.width = finite("peak", peak), finite("width", width)
        if not 0 < low <= high:
            raise ValueError(f"DySTreSS needs 0 < low <= high, got low={low}, high={high}")
        if width <= 0:
            raise ValueError(f"width must be > 0, got {width}")
        s = torch.linspace(0, 1, _GRID, dtype=torch.float64)
        falls = (s / self._rule(s)).diff() <= 0
        if bool(falls.any()):
            at = float(s[:-1][falls][0])
            raise ValueError(
                f"the logit s/τ(s) must rise on [0, 1], but with low={low:g}, high={high:g}, "
                f"peak={peak:g}, width={width:g} it falls at s={at:.3f}: bring low and high closer"
            )

    def _rule(self, s: Tensor) -> Tensor:
        angle = (s.detach() - self.peak).clamp(max=0.0) * (math.pi / self.width)
        return self.low + (self.high - self.low) / 2 * (1 + torch.cos(angle))

    def on(self, anchors: Anchors) -> Number:
        return PairNumber(self._rule)

    def range(self) -> Range:
        return self.low, self.high

    def __repr__(self) -> str:
        return f"DySTreSS({self.low:g}, {self.high:g}, peak={self.peak:g}, width={self.width:g})"


class TeMo(BatchControl):
    """A temperature for each pair that rises with its similarity.

    τ_ij = low + (high − low) · sqrt((s_ij + 1)/2)

    As in its public code the gradient passes through τ too, unless ``detach``; the logit s/τ(s)
    rises for all settings. There the loss is mixed with plain InfoNCE, by weights (1 − p)² and p²
    over the share p of the training; mix two losses for that.

    Args:
        low: temperature at s = −1, > 0; published: 0.01.
        high: temperature at s = 1; published: low + 0.02 to low + 0.05.
        detach: let no gradient pass through τ.

    Raises:
        ValueError: not 0 < low <= high.
    """

    granularity = "pair"
    needs_cosine = True

    def __init__(self, low: float = 0.01, high: float = 0.03, *, detach: bool = False) -> None:
        super().__init__()
        self.low, self.high = finite("low", low), finite("high", high)
        if not 0 < low <= high:
            raise ValueError(f"TeMo needs 0 < low <= high, got low={low}, high={high}")
        self.detach = flag("detach", detach)

    def _rule(self, s: Tensor) -> Tensor:
        share = ((s.detach() if self.detach else s) + 1) / 2
        return self.low + (self.high - self.low) * share.clamp(_SMALLEST, 1.0).sqrt()

    def on(self, anchors: Anchors) -> Number:
        return PairNumber(self._rule)

    def range(self) -> Range:
        return self.low, self.high

    def __repr__(self) -> str:
        return f"TeMo({self.low:g}, {self.high:g})"


class MACL(BatchControl):
    """One temperature that follows the alignment of the batch (Huang et al., ICML 2023).

    τ = init · (1 + slope · (A − A_0)),  A the mean similarity of the batch's positives, detached

    With ``InfoNCE(..., force="reweighted")`` it is the whole published method.

    Args:
        init: τ at alignment A_0, > 0; published: 0.1.
        slope: α, in [0, 1/(1 + A_0)]; published: 0.5.
        threshold: A_0, in [−1, 1]; published: 0.

    Raises:
        ValueError: values outside their range, or settings whose τ falls below 0 at A = −1.
    """

    needs_cosine = True

    def __init__(self, init: float = 0.1, slope: float = 0.5, threshold: float = 0.0) -> None:
        super().__init__()
        self.init, self.slope = finite("init", init), finite("slope", slope)
        self.threshold = finite("threshold", threshold)
        if init <= 0 or slope < 0 or not -1 <= threshold <= 1:
            raise ValueError(
                "MACL needs init > 0, slope >= 0 and threshold in [-1, 1], got "
                f"{init}, {slope}, {threshold}"
            )
        if slope * (1 + threshold) > 1:
            raise ValueError(
                f"MACL's τ would reach {self._at(-1.0):g} at alignment -1: slope·(1 + threshold) "
                f"must be <= 1, got {slope * (1 + threshold):g}"
            )
        # with slope·(1 + threshold) = 1 it is 0 at −1, where all pairs are opposite, and only there
        self._lowest = -1.0 + (_SMALLEST if slope * (1 + threshold) == 1 else 0.0)

    def _at(self, alignment: float) -> float:
        return self.init * (1 + self.slope * (alignment - self.threshold))

    def on(self, anchors: Anchors) -> Number:
        alignment = anchors.alignment()
        if self._lowest > -1:
            alignment = alignment.clamp(min=self._lowest)
        return self.init * (1 + self.slope * (alignment - self.threshold))

    def range(self) -> Range:
        return self._at(self._lowest), self._at(1.0)

    def __repr__(self) -> str:
        return f"MACL({self.init:g}, slope={self.slope:g}, threshold={self.threshold:g})"


@dataclass
class DySTreSSSpec(ControlSpec):
    """A temperature for each pair by its similarity, highest at a peak (DySTreSS)."""

    kind: ClassVar[str] = "dystress"
    title: ClassVar[str] = "DySTreSS"

    low: Level = 0.1
    """lowest temperature"""
    high: Level = 0.2
    """highest temperature"""
    peak: Similarity = 1.0
    """similarity from which on τ is high"""
    width: Annotated[float, Interval(0.0, 1e3, above=True)] = 1.0
    """distance in similarity from the peak to the lowest τ"""

    def build(self, context: Context) -> DySTreSS:
        return DySTreSS(self.low, self.high, self.peak, self.width)


@dataclass
class TeMoSpec(ControlSpec):
    """A temperature for each pair that grows with its similarity (TeMo)."""

    kind: ClassVar[str] = "temo"
    title: ClassVar[str] = "TeMo"

    low: Level = 0.01
    """temperature at similarity -1"""
    high: Level = 0.03
    """temperature at similarity 1"""

    def build(self, context: Context) -> TeMo:
        return TeMo(self.low, self.high)


@dataclass
class MACLSpec(ControlSpec):
    """One temperature for all samples that rises with the alignment of the batch (MACL)."""

    kind: ClassVar[str] = "macl"
    title: ClassVar[str] = "MACL"

    value: Level = 0.07
    """temperature at the alignment threshold"""
    slope: Annotated[float, Interval(0.0, 1e6)] = 0.5
    """how fast τ rises with alignment, relative to value"""
    threshold: Similarity = 0.0
    """alignment at which τ is value"""

    def build(self, context: Context) -> MACL:
        return MACL(self.value, self.slope, self.threshold)
