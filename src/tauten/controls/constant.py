"""One value for every sample and step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from tauten.controls.base import Control, Range, Scheduled, finite
from tauten.spec import Context, ControlSpec, Level


class Constant(Scheduled):
    """One value for every sample and step.

    Args:
        value: the temperature, margin or weight.

    Raises:
        ValueError: ``value`` is not a finite number.
    """

    follows_steps = False

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = self.fixed = finite("value", value)

    def number(self, step: int) -> float:
        return self.value

    def range(self) -> Range:
        return self.value, self.value

    def __repr__(self) -> str:
        return f"Constant({self.value:g})"


@dataclass
class ConstantSpec(ControlSpec):
    """One value for all samples and steps."""

    kind: ClassVar[str] = "constant"
    title: ClassVar[str] = "constant"
    as_margin: ClassVar[Mapping[str, float]] = {"value": 0.2}

    value: Level = 0.07
    """the temperature or margin"""

    def build(self, context: Context) -> Control:
        return Constant(self.value)
