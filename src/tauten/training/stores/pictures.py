"""Batches of pictures alone, for two views of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tauten.data.problems import Skipped
from tauten.training.stores.ahead import Reading
from tauten.training.stores.store import Reads

if TYPE_CHECKING:
    from tauten.training.stores.pair_data import PairData


class ViewStore:
    """A store of batches by image position.

    Args:
        data: the training split.
        workers: processes that read ahead.
    """

    skipped: Skipped | None = None

    def __init__(self, data: PairData, workers: int = 0) -> None:
        self.data = data
        self.workers = workers

    def __len__(self) -> int:
        return len(self.data)

    def reads(self, seed: int) -> Reads:
        """Return the positions, which the trainer shuffles."""
        return Reads(len(self), self.read if self.workers else None, self.workers)

    def read(self, positions: list[int], epoch: int = 0) -> Reading:
        """Return the images of these positions, for a step to come."""
        return Reading(self.data.images[torch.tensor(positions, dtype=torch.int64)])

    def batch(self, index: Tensor, reading: Reading | None = None) -> dict[str, Tensor]:
        """Return the images (N, 3, H, W) uint8 of these positions (N,), and the positions."""
        images = self.data.images[index] if reading is None else reading.pictures
        return {"images": images, "index": index}
