"""One batch as a loss sees it.

Shapes: N rows (anchors of x), M columns (anchors of y).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from tauten.controls import Control
from tauten.pairwise.engine import Tile, reduce_pairs
from tauten.pairwise.reduction import Reduction
from tauten.pairwise.sides import compute_dtype
from tauten.pairwise.terms import One
from tauten.relations import Relation

Direction = Literal["x2y", "y2x"]


@dataclass(frozen=True)
class Batch:
    """Embeddings, ids and relation of one batch.

    Attributes:
        x: (N, d), as given.
        y: (M, d), as given.
        ids: for each direction its anchors' data set ids, (N,) and (M,).
        relation: who is positive for whom.
        tile: how the engine works.
        cosine: whether similarities are cosines.
        relevance: (N,) how relevant each positive is, if known.
    """

    x: Tensor
    y: Tensor
    ids: dict[Direction, Tensor]
    relation: Relation
    tile: Tile
    cosine: bool
    relevance: Tensor | None = None

    def values(self, control: Control, direction: Direction) -> Tensor:
        """The control's values for the anchors of that direction, (n,) or (1,) if all share it."""
        return control.values(self.ids[direction], control.steps).to(self.x.device, self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the reductions."""
        return compute_dtype(self.x, self.y)

    def number(self, values: Tensor, direction: Direction) -> Tensor:
        """Values of anchors as a number that broadcasts against S: (N, 1), (1, M) or (1, 1)."""
        return values.unsqueeze(1) if direction == "x2y" else values.unsqueeze(0)

    def positives(self, direction: Direction) -> Tensor:
        """Mean similarity of the anchors of that direction to their positives."""
        return self._positives[direction]

    @cached_property
    def _positives(self) -> dict[Direction, Tensor]:
        rows, cols = self.relation.positives(self.x, self.y, cosine=self.cosine)
        return {"x2y": rows, "y2x": cols}

    def of(self, per_row: Tensor, direction: Direction) -> Tensor:
        """Numbers of rows, (N,), as numbers of the anchors of that direction."""
        per_row = per_row.to(self.x.device, self.dtype)
        return per_row if direction == "x2y" else self.relation.on_columns(per_row, len(self.y))

    def reduce(self, *reductions: Reduction, own: bool) -> tuple[Tensor, ...]:
        """The reductions over S without ignored pairs, and without positives if ``own``."""
        return reduce_pairs(
            self.x,
            self.y,
            reductions,
            self.relation.mask(own=own),
            tile=self.tile,
            cosine=self.cosine,
        )

    def negatives(self, direction: Direction) -> Tensor:
        """How many negatives the anchors of that direction have, (n,) or (1,) if all as many."""
        if self.relation.single:
            return torch.full((1,), self.candidates(direction) - 1.0).to(self.x.device, self.dtype)
        return self._negatives[direction]

    @cached_property
    def _negatives(self) -> dict[Direction, Tensor]:
        with torch.no_grad():
            rows, cols = self.reduce(
                Reduction("rows", "sum", One(), ()), Reduction("cols", "sum", One(), ()), own=True
            )
        return {"x2y": rows, "y2x": cols}

    def candidates(self, direction: Direction) -> int:
        """How many candidates an anchor of that direction has, its positive among them."""
        return len(self.y) if direction == "x2y" else len(self.x)


def along(direction: Direction) -> Literal["rows", "cols"]:
    """The side of S on which the anchors of that direction lie."""
    return "rows" if direction == "x2y" else "cols"
