"""The anchors of a batch as a control sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Direction = Literal["x2y", "y2x"]
DIRECTIONS: tuple[Direction, Direction] = ("x2y", "y2x")


@dataclass(frozen=True)
class Anchors:
    """One direction of a batch, on this process.

    Attributes:
        direction: whether rows of x or rows of y are the anchors.
        index: (n,) long, their data set positions.
        keys: (m,) long, positions of the candidates that this process has.
        embeddings: (n, d) of the anchors as the loss was given them, attached to their graph.
        alignment: () -> () mean similarity of all pairs to their positives, detached.
        separation: (t) -> () −log of the mean of exp(−t‖x_i − x_j‖²) over all pairs of rows of x of
            all processes, scaled to length 1, detached; NaN of fewer than two rows.
        note: keeps a call for when the loss of the batch is found to be finite.
        number: values of the anchors, () or (n, ...), -> shaped to broadcast against S.
        key_number: the same for values of the candidates, (m, ...).
        dtype: precision of the batch.
        turned: whether the rows of S are anchors of y, which meet keys of x.
    """

    direction: Direction
    index: Tensor
    keys: Tensor
    embeddings: Tensor
    alignment: Callable[[], Tensor]
    separation: Callable[[float], Tensor]
    note: Callable[[Callable[[], None]], None]
    number: Callable[[Tensor], Tensor]
    key_number: Callable[[Tensor], Tensor]
    dtype: torch.dtype = torch.float32
    turned: bool = False

    def both(self, of_x: Tensor, of_y: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows of two tables, shaped for the rows and columns of S: (N, 1, ...),
        (1, M, ...).
        """
        there = self.direction == "x2y"
        table, other = (of_x, of_y) if there else (of_y, of_x)
        anchors = self.number(table[self.index.to(table.device)])
        keys = self.key_number(other[self.keys.to(other.device)])
        return (anchors, keys) if there or self.turned else (keys, anchors)
