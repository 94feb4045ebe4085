"""Reductions of a loss over the pair matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from tauten.pairwise.numbers import Number, PairNumber, plain
from tauten.pairwise.terms import Term

Along = Literal["rows", "cols"]
How = Literal["sum", "logsumexp"]


def compute_dtype(*vectors: Tensor) -> torch.dtype:
    """Return float64 if any of them is, else float32."""
    for side in vectors:
        if side.dtype == torch.float64:
            return torch.float64
    return torch.float32


class Reduction(NamedTuple):
    """One number per row, or per column, of the pair matrix S = x·yᵀ (N, M).

    Attributes:
        along: ``"rows"`` reduces each row to one number (N,), ``"cols"`` each column (M,).
        how: ``"sum"`` or ``"logsumexp"`` of φ over the pairs that are not masked; over no pair
            at all they are 0 and −∞.
        term: the elementwise φ.
        numbers: what φ takes besides s, each (N, 1), (1, M) or (1, 1).
    """

    along: Along
    how: How
    term: Term
    numbers: tuple[Tensor, ...]

    @classmethod
    def of(cls, along: Along, how: How, term: Term, *numbers: Number) -> Reduction:
        """Return a reduction whose numbers may differ from pair to pair."""
        for number in numbers:
            if isinstance(number, PairNumber):
                return cls(along, how, *plain(term, numbers))
        return cls(along, how, term, numbers)  # type: ignore[arg-type]

    @property
    def dim(self) -> int:
        """The dimension of S that is summed away."""
        return 1 if self.along == "rows" else 0


@dataclass(frozen=True)
class Shared:
    """Reductions that share φ, its numbers and how they reduce, so that φ is evaluated once.

    Attributes:
        term: φ.
        how: ``"sum"`` or ``"logsumexp"``.
        numbers: places of φ's numbers.
        members: places of the reductions.
    """

    term: Term
    how: How
    numbers: tuple[int, ...]
    members: tuple[int, ...]


def shared(reductions: Sequence[Reduction]) -> tuple[list[Shared], list[Tensor]]:
    """Return reductions by what they share, and the distinct numbers."""
    numbers: list[Tensor] = []
    places: dict[int, int] = {}
    members: dict[tuple[Term, How, tuple[int, ...]], list[int]] = {}
    for at, reduction in enumerate(reductions):
        used = []
        for number in reduction.numbers:
            if id(number) not in places:
                places[id(number)] = len(numbers)
                numbers.append(number)
            used.append(places[id(number)])
        members.setdefault((reduction.term, reduction.how, tuple(used)), []).append(at)
    return [Shared(*key, tuple(at)) for key, at in members.items()], numbers
