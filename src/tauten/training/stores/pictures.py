"""Batches of pictures alone, for two views of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from tauten.data.problems import Skipped
from tauten.training.stores.store import Reads

if TYPE_CHECKING:
    from tauten.training.stores.pair_data import PairData


class ViewStore:
    """A store of batches by image position.

    Args:
        data: the training split.
    """

    skipped: Skipped | None = None

    def __init__(self, data: PairData) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def reads(self, seed: int) -> Reads:
        """Return the positions, which the trainer shuffles."""
        return Reads(len(self))

    def batch(self, index: Tensor, reading: Any = None) -> dict[str, Tensor]:
        """Return the images (N, 3, H, W) uint8 of these positions (N,), and the positions."""
        return {"images": self.data.images[index], "index": index}
