"""One value for every sample and step."""

from __future__ import annotations

from tauten.controls.base import Range, Scheduled, finite


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
