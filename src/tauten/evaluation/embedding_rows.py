"""Embeddings read, converted and scaled tile by tile, so that a file is never held whole."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.checks import tensor
from tauten.evaluation.correspondence import require_alike, require_finite, require_matrix, unit

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Rows:
    """Embeddings as given; rows are converted and scaled when they are read."""

    def __init__(self, x: Any, name: str, normalize: bool) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            self.source = tensor(x, name)
        require_matrix(self.source, name)
        self.normalize = normalize
        self.dtype = torch.promote_types(self.source.dtype, torch.float32)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, where: slice | Tensor) -> Tensor:
        rows = self.source[where]
        rows = rows if rows.dtype == torch.float64 else rows.float()
        return (unit(rows) if self.normalize else rows).to(self.dtype)

    def require_finite(self, name: str, tile: int) -> None:
        """Refuse rows with NaN or inf, by their numbers."""
        blocks = blocks_of(len(self), tile)
        finite = [self.source[block].isfinite().all(dim=1) for block in blocks]
        require_finite(torch.cat(finite), name)

    def norms(self, tile: int) -> Tensor:
        """Return the norm (N,) of each row; for scaled rows, that of the longest for all."""
        norm = torch.cat([self[b].norm(dim=1) for b in blocks_of(len(self), tile)])
        return norm.max().expand(len(norm)) if self.normalize else norm

    def checksum(self, tile: int) -> int:
        """Return a checksum that changes with any bit of an element and with the order of rows."""
        integers = INTEGERS[self.source.element_size()]
        blocks = (self.source[b].contiguous().view(integers) for b in blocks_of(len(self), tile))
        return checksum_of(torch.cat([block.sum(dim=1) for block in blocks]))


def checksum_of(number_N: Tensor) -> int:
    """Return the sum of the numbers times 1, 3, 5, ..., modulo 2^64; it depends on their order."""
    odd = torch.arange(1, 2 * len(number_N), 2, device=number_N.device)
    return int((number_N * odd).sum())


def sides_of(x: Any, y: Any, normalize: bool, tile: int) -> dict[str, Rows]:
    """Return both sides, checked, to be read in one precision.

    Raises:
        ValueError: NaN or inf, with the rows named, or sides of unequal widths or devices.
    """
    sides = {"x": Rows(x, "x", normalize), "y": Rows(y, "y", normalize)}
    for name, side in sides.items():
        side.require_finite(name, tile)
    require_alike(sides["x"].source, sides["y"].source)
    dtype = torch.promote_types(sides["x"].dtype, sides["y"].dtype)
    for side in sides.values():
        side.dtype = dtype
    return sides


def blocks_of(stop: int, size: int, start: int = 0) -> list[slice]:
    """Return the slices of ``start`` to ``stop``, each of ``size`` rows but the last."""
    return [slice(left, min(left + size, stop)) for left in range(start, stop, size)]
