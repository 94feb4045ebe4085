"""The interface of a store: batches of samples by position, wherever they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    """A data set that the loader of a training reads before a step: positions, and what follows
    from them alone.

    Args:
        size: number of samples.
        read: makes of positions and the epoch what :meth:`Store.batch` takes as `reading`; None
            for positions alone.
        workers: processes of the loader that read ahead.

    Attributes:
        epoch: the one that is read.
    """

    def __init__(
        self, size: int, read: Callable[[list[int], int], Any] | None = None, workers: int = 0
    ) -> None:
        self.size = size
        self.workers = workers
        self.epoch = 0
        self._read = read

    def __len__(self) -> int:
        return self.size

    def __getitems__(self, positions: list[int]) -> tuple[list[int], Any]:
        return positions, None if self._read is None else self._read(positions, self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Read this epoch from now on."""
        self.epoch = epoch

    def sampler(self) -> Sampler[int] | None:
        """Return the order of the positions; None for the trainer's own."""
        return None

    def collate(self, read: tuple[Sequence[int], Any]) -> dict[str, Any]:
        """Return a batch that was read, for :meth:`Store.batch`."""
        positions, reading = read
        batch = {"index": BatchIndex(torch.tensor(positions, dtype=torch.int64))}
        return batch if reading is None else batch | {"reading": reading}


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
