"""Reductions of a loss over the pair matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tauten.pairwise.numbers import Number, plain
from tauten.pairwise.terms import Term

Along = Literal["rows", "cols"]
How = Literal["sum", "logsumexp"]


@dataclass(frozen=True)
class Reduction:
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
        return cls(along, how, *plain(term, numbers))

    @property
    def dim(self) -> int:
        """The dimension of S that is summed away."""
        return 1 if self.along == "rows" else 0
