"""Arithmetic of controls: sums, multiples, reciprocals and limits of them are controls too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tauten.checks import finite
from tauten.controls.anchors import Anchors, Direction
from tauten.controls.base import Control, Granularity, Range
from tauten.pairwise.numbers import Number, PairNumber, combine


class Composite(Control):
    """A control made of others, at the step that they have reached.

    A subclass gives :meth:`_of`, elementwise, and the range.
    """

    def __init__(self, *parts: Control) -> None:
        super().__init__()
        for part in parts:
            if not part.composable:
                raise ValueError(
                    f"{part!r} updates each τ by itself, so it can be no part of another control"
                )
        self.granularity = _finest([part.granularity for part in parts])
        self.needs_index = any(part.needs_index for part in parts)
        self.two_sided = self.needs_index and all(
            part.two_sided for part in parts if part.needs_index
        )
        self.follows_steps = any(part.follows_steps for part in parts)
        self.needs_batch = any(part.needs_batch for part in parts)
        self.needs_cosine = any(part.needs_cosine for part in parts)
        ways = {part.learns for part in parts} - {"nothing"}
        if len(ways) > 1:
            raise ValueError(
                f"{parts[0]!r} and {parts[1]!r} learn from different gradients: compose one of "
                "them with a schedule instead"
            )
        self.learns = ways.pop() if ways else "nothing"
        radii = {part.rho for part in parts} - {0.0}
        if len(radii) > 1:
            raise ValueError(f"{parts[0]!r} and {parts[1]!r} have different rho: give them one")
        self.rho = radii.pop() if radii else 0.0
        self._parts = parts
        self._set_steps(max(part.steps for part in parts))

    @property
    def by_id(self) -> bool:
        return all(part.by_id for part in self._parts)

    @property
    def of_ids(self) -> bool:
        return all(part.of_ids for part in self._parts)

    def values(self, index: Tensor, step: int) -> Tensor:
        return self._of(*(part.values(index, step) for part in self._parts))

    @property
    def learned_granularity(self) -> Granularity:
        learned = [part for part in self._parts if part.learns != "nothing"]
        return _finest([part.learned_granularity for part in learned])

    def side(self, index: Tensor, direction: Direction) -> Tensor:
        return self._of(*(part.side(index, direction) for part in self._parts))

    def on(self, anchors: Anchors) -> Number:
        values = [part.on(anchors) for part in self._parts]
        if not any(isinstance(value, PairNumber) for value in values):
            return self._of(*values)
        numbers = []
        for part, value in zip(self._parts, values, strict=True):
            if isinstance(value, Tensor):
                value = anchors.number(value.reshape(()) if part.shared else value)
            numbers.append(value)
        return combine(self._of, *numbers)

    def _of(self, *values: Any) -> Tensor:
        raise NotImplementedError


def _finest(kinds: Sequence[Granularity]) -> Granularity:
    order: tuple[Granularity, ...] = ("global", "anchor", "pair")
    return order[max((order.index(kind) for kind in kinds), default=0)]


class Sum(Composite):
    """a + b."""

    def __init__(self, a: Control, b: Control) -> None:
        super().__init__(a, b)
        self.a, self.b = a, b

    def _of(self, *values: Tensor) -> Tensor:
        return values[0] + values[1]

    def range(self) -> Range:
        (a_low, a_high), (b_low, b_high) = self.a.range(), self.b.range()
        return a_low + b_low, a_high + b_high

    def __repr__(self) -> str:
        return f"{self.a!r} + {self.b!r}"


class Scaled(Composite):
    """factor · a."""

    def __init__(self, a: Control, factor: float) -> None:
        super().__init__(a)
        self.a, self.factor = a, finite("factor", factor)

    def _of(self, *values: Tensor) -> Tensor:
        return self.factor * values[0]

    def range(self) -> Range:
        low, high = sorted(self.factor * end for end in self.a.range())
        return low, high

    def __repr__(self) -> str:
        return f"{self.factor:g} * ({self.a!r})"


class Reciprocal(Composite):
    """numerator / a, for an ``a`` that keeps away from 0."""

    def __init__(self, a: Control, numerator: float = 1.0) -> None:
        super().__init__(a)
        low, high = a.range()
        if low <= 0 <= high:
            raise ValueError(f"cannot divide by a control that can be 0: {a!r} is in {[low, high]}")
        self.a, self.numerator = a, finite("numerator", numerator)

    def _of(self, *values: Tensor) -> Tensor:
        return self.numerator / values[0]

    def range(self) -> Range:
        low, high = sorted(self.numerator / end for end in self.a.range())
        return low, high

    def __repr__(self) -> str:
        return f"{self.numerator:g} / ({self.a!r})"


class Clamped(Composite):
    """a, limited to [low, high]."""

    def __init__(self, a: Control, low: float, high: float) -> None:
        super().__init__(a)
        self.a, self.low, self.high = a, finite("low", low), finite("high", high)
        if low > high:
            raise ValueError(f"clamp needs low <= high, got {low} > {high}")

    def _of(self, *values: Tensor) -> Tensor:
        return values[0].clamp(self.low, self.high)

    def range(self) -> Range:
        low, high = (min(max(end, self.low), self.high) for end in self.a.range())
        return low, high

    def __repr__(self) -> str:
        return f"({self.a!r}).clamp({self.low:g}, {self.high:g})"
