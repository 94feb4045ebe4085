"""One value for every sample and step."""

from __future__ import annotations

import torch
from torch import Tensor

from tauten.controls.base import Control, Range, finite


class Constant(Control):
    """One value for every sample and step.

    Args:
        value: the temperature, margin or weight.

    Raises:
        ValueError: ``value`` is not a finite number.
    """

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = self.fixed = finite("value", value)

    def values(self, index: Tensor, step: int) -> Tensor:
        return torch.full((1,), self.value, device=index.device)

    def range(self) -> Range:
        return self.value, self.value

    def __repr__(self) -> str:
        return f"Constant({self.value:g})"
