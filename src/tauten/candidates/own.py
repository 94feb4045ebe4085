"""Hard negatives of each anchor's own, which no other anchor meets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class OwnNegatives:
    """Hard negatives of each anchor of x, of each of y, or of both.

    They cost O(N·K·d), and no other anchor meets them: captions that differ from the image's own
    in one word, or pictures that the caption does not describe.

    Attributes:
        for_x: (N, K, d) what the rows of x must be told from, such as captions; None for none.
        for_y: (M, L, d) what the rows of y must be told from, such as pictures; None for none.
        missing_x: (N, K) bool, True where ``for_x`` only fills up; None where all count.
        missing_y: (M, L) bool, the same of ``for_y``.

    Raises:
        ValueError: no negatives at all, or shapes that do not fit.
    """

    for_x: Tensor | None = None
    for_y: Tensor | None = None
    missing_x: Tensor | None = None
    missing_y: Tensor | None = None

    def __post_init__(self) -> None:
        if self.for_x is None and self.for_y is None:
            raise ValueError("negatives= are (N, K, d) of x, or (of x, of y), got none")
        for side, vectors, missing in (
            ("x", self.for_x, self.missing_x),
            ("y", self.for_y, self.missing_y),
        ):
            if vectors is None:
                if missing is not None:
                    raise ValueError(f"missing_{side} is given, but no negatives for_{side}")
                continue
            if (
                not isinstance(vectors, Tensor)
                or vectors.dim() != 3
                or not vectors.is_floating_point()
                or not vectors.shape[1]
            ):
                shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors)
                raise ValueError(
                    f"negatives= of {side} must be floating (N, K, d) with K > 0, got {shape}"
                )
            if missing is not None and (
                not isinstance(missing, Tensor)
                or missing.dtype != torch.bool
                or missing.shape != vectors.shape[:2]
            ):
                raise ValueError(
                    f"missing_{side} must be bool {tuple(vectors.shape[:2])}, one for each negative"
                )

    def each(self, change: Callable[[Tensor], Tensor]) -> OwnNegatives:
        """Return them with each tensor changed, such as detached or moved."""
        return OwnNegatives(*(None if part is None else change(part) for part in self._parts))

    @property
    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.for_x, self.for_y, self.missing_x, self.missing_y

    @classmethod
    def joined(
        cls, parts: Sequence[OwnNegatives | None], sizes: Sequence[int]
    ) -> OwnNegatives | None:
        """Return those of the anchors of x of several batches, one after the other.

        Args:
            parts: of each batch; None for one whose anchors have none.
            sizes: anchors of x of each batch.
        """
        there = [part.for_x for part in parts if part is not None and part.for_x is not None]
        if not there:
            return None
        most = max(vectors.shape[1] for vectors in there)
        filled, gone = [], []
        for part, size in zip(parts, sizes, strict=True):
            whole = there[0].new_zeros(size, most, there[0].shape[2])
            missing = torch.ones(size, most, dtype=torch.bool, device=whole.device)
            if part is not None and part.for_x is not None:
                count = part.for_x.shape[1]
                whole[:, :count] = part.for_x
                missing[:, :count] = False if part.missing_x is None else part.missing_x
            filled.append(whole)
            gone.append(missing)
        return cls(torch.cat(filled), missing_x=torch.cat(gone))

    def alone(self, side: Literal["x2y", "y2x"]) -> OwnNegatives | None:
        """Return those of one side's anchors as if they were of x; None if it has none."""
        vectors, missing = self.for_x, self.missing_x
        if side == "y2x":
            vectors, missing = self.for_y, self.missing_y
        return None if vectors is None else OwnNegatives(vectors, missing_x=missing)


#: what ``negatives=`` may be
Negatives = Tensor | tuple[Tensor | None, Tensor | None] | OwnNegatives


def as_negatives(given: Negatives) -> OwnNegatives:
    """Return negatives as an object; a tensor is of the anchors of x.

    Raises:
        ValueError: neither a tensor, nor one for each side, nor such an object.
    """
    if isinstance(given, OwnNegatives):
        return given
    if isinstance(given, Tensor):
        return OwnNegatives(given)
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return OwnNegatives(*given)
    raise ValueError(
        "negatives= must be (N, K, d) of x, (of x, of y), or tauten.candidates.OwnNegatives, got "
        f"{type(given).__name__}"
    )
