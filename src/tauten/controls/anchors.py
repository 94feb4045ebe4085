"""The anchors of a batch as a control sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Direction = Literal["x2y", "y2x"]


@dataclass(frozen=True)
class Anchors:
    """One direction of a batch.

    Attributes:
        direction: whether rows of x or rows of y are the anchors.
        index: (n,) long, their data set positions.
        keys: (m,) long, positions of the candidates.
        embeddings: (n, d) of the anchors as the loss was given them, attached to their graph.
        alignment: () -> mean similarity of all pairs to their positives, detached.
    """

    direction: Direction
    index: Tensor
    keys: Tensor
    embeddings: Tensor
    alignment: Callable[[], Tensor]

    def number(self, values: Tensor) -> Tensor:
        """Values of anchors, (n, ...) or (1,), shaped to broadcast against S."""
        return values.unsqueeze(1) if self.direction == "x2y" else values.unsqueeze(0)

    def both(self, table: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of a table for the rows and for the columns of S: (N, 1, ...), (1, M, ...)."""
        anchors, keys = table[self.index.to(table.device)], table[self.keys.to(table.device)]
        rows, cols = (anchors, keys) if self.direction == "x2y" else (keys, anchors)
        return rows.unsqueeze(1), cols.unsqueeze(0)
