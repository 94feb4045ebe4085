"""A table for each side of the pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from tauten.controls.anchors import DIRECTIONS, Direction
from tauten.state import SampleTable

#: data set sizes: one number for both sides, or (x, y) with ids of their own; None grows
Sizes = int | None | tuple[int | None, int | None]


class SideTables(nn.ModuleDict):
    """The tables of x, as "x2y", and of y, as "y2x".

    Args:
        sizes: sizes of the data set, or of each side.
        columns: as for :class:`SampleTable`.
        device: as for :class:`SampleTable`.
    """

    def __init__(
        self, sizes: Sizes, columns: Mapping[str, float], device: Literal["cpu"] | None
    ) -> None:
        both = sizes if isinstance(sizes, tuple) else (sizes, sizes)
        super().__init__(
            {
                side: SampleTable(size, columns, device)
                for side, size in zip(DIRECTIONS, both, strict=True)
            }
        )

    def of(self, side: Direction) -> SampleTable:
        """Return the table of one side."""
        table = self[side]
        assert isinstance(table, SampleTable)
        return table

    def prefetch(
        self, index: Tensor | tuple[Tensor, Tensor], to: torch.device | str | None
    ) -> None:
        """Start to bring the rows of both sides' samples; see :meth:`SampleTable.prefetch`."""
        sides = index if isinstance(index, tuple) else (index, index)
        for side, ids in zip(DIRECTIONS, sides, strict=True):
            self.of(side).prefetch(ids, to)
