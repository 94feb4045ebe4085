"""What a loss reduces over the pair matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tauten.pairwise.terms import Term


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

    along: Literal["rows", "cols"]
    how: Literal["sum", "logsumexp"]
    term: Term
    numbers: tuple[Tensor, ...]

    @property
    def dim(self) -> int:
        """The dimension of S that is summed away."""
        return 1 if self.along == "rows" else 0
