"""Embeddings, ids and relation of one batch, as its fields.

Shapes: N rows (anchors of x), M columns (anchors of y), of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.controls import Direction
from tauten.losses.hard import HardNegatives
from tauten.losses.stack import Stack
from tauten.observations import Samples
from tauten.pairwise import Number
from tauten.pairwise.engine import Tile
from tauten.pairwise.exchange import Ranks
from tauten.pairwise.ranks import Exchange
from tauten.pairwise.sides import within_range
from tauten.pairwise.units import Units
from tauten.relations import PairWeights, Relation

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class BatchFields:
    """Embeddings, ids and relation of one batch.

    Attributes:
        x: (N, d), as given.
        y: (M, d), as given.
        ids: for each direction its anchors' data set ids, (N,) and (M,).
        relation: who is positive for whom.
        tile: how the engine works.
        cosine: whether similarities are cosines.
        relevance: how relevant each positive is, (N,), or each pair, if known.
        views: the embeddings that controls see, if they are not x and y.
        ranks: the processes that share the pair matrix, if there are several.
        exchange: how columns reach all of them.
        named: whether the ids were given.
        only_pairs: whether N rows and N columns, each with one positive and all others or nearly
            all for negatives, are all there is, and S is held.
        trusting: whether rows are taken to be fit for scaling: others make the loss NaN.
        stack: how the rows of x are views of samples, where they are.
        side: where candidates are keys: of which side the anchors are, which are all in x then.
        other: the batch of the other side's anchors and their keys, if they count too.
        targets: of the anchors, in the place of one positive each.
        repulsion: weights of negatives in the denominator.
        hard: for each direction the own negatives of its anchors, if they have any.
        several: whether other processes have batches of their own.
        held: whether the tile is such that one process holds S.
        shard: rows of this process, where the batch is that of all of them.
        dtype: the precision of the reductions.
        notes: what a loss leaves for the next step, each called once the loss is found to be
            finite, so that a batch that is refused leaves nothing.
        sums: numbers (k,) that are summed over processes with the losses, and what takes the sums.
    """

    x: Tensor
    y: Tensor
    ids: dict[Direction, Tensor]
    relation: Relation
    tile: Tile
    cosine: bool
    relevance: Number | None = None
    views: dict[Direction, Tensor] | None = None
    ranks: Ranks | None = None
    exchange: Exchange = "gather"
    named: bool = True
    only_pairs: bool = False
    trusting: bool = False
    stack: Stack | None = None
    side: Direction | None = None
    other: Self | None = None
    targets: PairWeights | None = None
    repulsion: PairWeights | None = None
    hard: Mapping[Direction, HardNegatives] = field(default_factory=dict)
    several: bool = False
    held: bool = False
    shard: slice | None = None
    dtype: torch.dtype = field(init=False)
    notes: list[Callable[[], None]] = field(init=False, default_factory=list)
    sums: list[tuple[Tensor, Callable[[Tensor], None]]] = field(init=False, default_factory=list)
    _strengths: dict[tuple[int, Direction], Number] = field(init=False, default_factory=dict)
    _positives: dict[Direction, Tensor] = field(init=False, default_factory=dict)
    _samples: dict[Direction, Samples] = field(init=False, default_factory=dict)
    _logs: dict[float, Tensor] = field(init=False, default_factory=dict)
    _units: list[Units | None] = field(init=False, default_factory=list)

    @property
    def sides(self) -> dict[Direction, Tensor]:
        """The anchors of each direction, as they were given: (n, d)."""
        return self.views or {"x2y": self.x, "y2x": self.y}

    def scaled(self) -> Self:
        """Return the batch, trusting no more: rows are scaled until they have lengths."""
        if not self.trusting:
            return self
        x, y = within_range(self.x), within_range(self.y)
        views: dict[Direction, Tensor] = {"x2y": self.x, "y2x": self.y}
        return replace(self, x=x, y=y, views=views, trusting=False)

    def of_process(self) -> Self:
        """Return the batch with the rows of this process alone."""
        if self.shard is None:
            return self
        ids = {direction: ids[self.shard] for direction, ids in self.ids.items()}
        return replace(self, x=self.x[self.shard], y=self.y[self.shard], ids=ids, shard=None)

    def samples(self, direction: Direction) -> Samples:
        """Return this process's anchors of that direction as samples of the data set."""
        if not self._samples:
            of_x, of_y = self.ids["x2y"], self.ids["y2x"]
            alike = of_y is of_x
            if self.shard is not None:
                of_x, of_y = of_x[self.shard], of_y[self.shard]
            self._samples["x2y"] = Samples(of_x)
            self._samples["y2x"] = self._samples["x2y"] if alike else Samples(of_y)
        return self._samples[direction]
