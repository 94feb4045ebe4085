"""Numbers that differ from pair to pair.

A temperature τ_ij is never held as a matrix: it is a rule of the similarity and of numbers of the
row and of the column, and the engine applies it tile by tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.pairwise.terms import Term

Rule = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class PairNumber:
    """A number for each pair, rule(s, *numbers).

    Attributes:
        rule: elementwise in s, which is a tile (n, m) or a vector of pairs (n,). Gradients pass
            unless it detaches. Reductions of equal rules and numbers share what they can. It is
            called from several threads at once.
        numbers: what the rule takes besides s, each (N, 1, ...), (1, M, ...) or (1, 1), with
            further dimensions only where no gradient is needed.
    """

    rule: Rule
    numbers: tuple[Tensor, ...] = ()

    def at(self, s: Tensor, cols: Tensor) -> Tensor:
        """Return (N,) the numbers of the pairs (i, cols[i]) whose similarities are s, (N,)."""
        parts = []
        for number in self.numbers:
            if number.shape[0] != 1:
                parts.append(number[:, 0])
            else:
                parts.append(number[0, cols] if number.shape[1] > 1 else number[0])
        return self.rule(s, *parts)


Number = Tensor | PairNumber


@dataclass(frozen=True)
class _Combined:
    """The rule function(*parts), where each part is a number or has a rule of its own."""

    function: Rule
    parts: tuple[tuple[Rule | None, int], ...]

    def __call__(self, s: Tensor, *numbers: Tensor) -> Tensor:
        return self.function(*_regroup(self.parts, s, numbers))


def _regroup(
    parts: Sequence[tuple[Rule | None, int]], s: Tensor, numbers: Sequence[Tensor]
) -> list[Tensor]:
    """Return each part's value from the flat numbers."""
    values, start = [], 0
    for rule, count in parts:
        group = numbers[start : start + count]
        values.append(group[0] if rule is None else rule(s, *group))
        start += count
    return values


def _flatten(
    numbers: Sequence[Number],
) -> tuple[tuple[tuple[Rule | None, int], ...], tuple[Tensor, ...]]:
    parts: list[tuple[Rule | None, int]] = []
    flat: list[Tensor] = []
    for number in numbers:
        if isinstance(number, PairNumber):
            parts.append((number.rule, len(number.numbers)))
            flat.extend(number.numbers)
        else:
            parts.append((None, 1))
            flat.append(number)
    return tuple(parts), tuple(flat)


def combine(function: Rule, *numbers: Number) -> Number:
    """Return function(*numbers), elementwise; a number for each pair where any of them is one.

    Args:
        function: of tensors; give the same object for the same function, so that equal rules are
            recognised.
        numbers: that broadcast against S.
    """
    if not any(isinstance(number, PairNumber) for number in numbers):
        return function(*numbers)
    parts, flat = _flatten(numbers)
    return PairNumber(_Combined(function, parts), flat)


@dataclass(frozen=True)
class Ruled(Term):
    """A term of which some numbers follow rules of their own."""

    term: Term
    parts: tuple[tuple[Rule | None, int], ...]

    def value(self, s: Tensor, *numbers: Tensor, out: Tensor | None = None) -> Tensor:
        return self.term.value(s, *_regroup(self.parts, s, numbers))


def plain(term: Term, numbers: Sequence[Number]) -> tuple[Term, tuple[Tensor, ...]]:
    """Return the same term with tensors as its only numbers."""
    parts, flat = _flatten(numbers)
    if all(rule is None for rule, _ in parts):
        return term, flat
    return Ruled(term, parts), flat


def reciprocal(number: Number) -> Number:
    """Return 1 / number."""
    return combine(torch.reciprocal, number)
