"""The interface of a store: batches of samples by position, wherever they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tauten.data.problems import Skipped


@dataclass(frozen=True)
class BatchIndex:
    """Positions of a batch's samples, (N,) long, that stay in main memory.

    A loader moves tensors to the device, but not with it; to fetch them back would wait for it.
    """

    positions: Tensor


class Reads(Dataset[Any]):
    """A data set that the loader of a training reads before a step: here positions alone.

    Args:
        size: number of samples.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, position: int) -> int:
        return position

    def sampler(self) -> Sampler[int] | None:
        """Return the order of the positions; None for the trainer's own."""
        return None

    def collate(self, positions: Sequence[int]) -> dict[str, Any]:
        """Return a batch that was read, for :meth:`Store.batch`."""
        return {"index": BatchIndex(torch.tensor(positions, dtype=torch.int64))}


class Store(Protocol):
    """Batches of the training split by position.

    Attributes:
        skipped: samples that could not be used, counted each time; None where all are in memory.
    """

    skipped: Skipped | None

    def __len__(self) -> int: ...

    def reads(self, seed: int) -> Reads:
        """Return what the loader reads, in an order that follows from the seed and the epoch."""
        ...

    def batch(self, index: Tensor, reading: Any = None) -> dict[str, Any]:
        """Return the arguments of the module for those of these samples that can be used.

        Args:
            index: (N,) long, positions.
            reading: what the loader read of them; None to read them now.
        """
        ...
