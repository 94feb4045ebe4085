"""One value, learned by gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tauten.controls.anchors import Anchors
from tauten.controls.base import Control, Range, finite
from tauten.pairwise.numbers import Number
from tauten.spec import Context, ControlSpec, Level


class Learnable(Control):
    """One value for every sample, learned with the model's other parameters and bounded.

    Where ``low`` is positive the parameter is log(value), so that a gradient step multiplies;
    else (a bias, say) it is the value itself. The value is clamped to the bounds while its gradient
    passes, and each :meth:`step` projects the parameter back, so that it leaves a bound at once.

    Args:
        init: value at the start, within the bounds.
        low: lower bound.
        high: upper bound.

    Raises:
        ValueError: not low <= init <= high with low < high, anything not finite.
    """

    learns = "gradient"

    def __init__(self, init: float, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = finite("low", low), finite("high", high)
        if not low < high or not low <= finite("init", init) <= high:
            raise ValueError(
                f"Learnable needs low <= init <= high and low < high, got low={low}, "
                f"init={init}, high={high}"
            )
        self._log = low > 0
        self.parameter = nn.Parameter(torch.tensor([self._encode(init)]))

    def _encode(self, value: float) -> float:
        return math.log(value) if self._log else float(value)

    @property
    def of_ids(self) -> bool:
        return True

    def values(self, index: Tensor, step: int) -> Tensor:
        return self._value(self.parameter.to(index.device))

    def on(self, anchors: Anchors) -> Number:
        finer = torch.promote_types(anchors.dtype, self.parameter.dtype)
        return self._value(self.parameter.to(anchors.index.device, finer))

    def _value(self, parameter: Tensor) -> Tensor:
        value = parameter.exp() if self._log else parameter
        return value + (value.clamp(self.low, self.high) - value).detach()

    def range(self) -> Range:
        return self.low, self.high

    @torch.no_grad()
    def _advance(self) -> None:
        super()._advance()
        self.parameter.clamp_(self._encode(self.low), self._encode(self.high))

    def __repr__(self) -> str:
        value = float(self.values(torch.zeros(1, dtype=torch.long), 0).detach())
        return f"Learnable({value:g}, low={self.low:g}, high={self.high:g})"


@dataclass
class LearnableSpec(ControlSpec):
    """One value for all samples, learned by the gradient of the loss."""

    kind: ClassVar[str] = "learnable"
    title: ClassVar[str] = "one learned τ"

    value: Level = 0.07
    """at the start"""
    low: Level = 0.01
    """lower bound"""
    high: Level = 1.0
    """upper bound"""

    def build(self, context: Context) -> Control:
        return Learnable(self.value, self.low, self.high)
