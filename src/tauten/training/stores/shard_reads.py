"""Batches of shards, read before the step, in an order that is the same on all processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.utils.data import Sampler

from tauten.data import Catalogue, ShardPairs
from tauten.data.epoch_order import EpochOrder
from tauten.data.problems import Problem
from tauten.training.stores.store import BatchIndex, Reads

_RUN = 256


@dataclass(frozen=True)
class Reading:
    """Raw material of a batch, read and decoded; no tensor is moved to a device with it.

    Attributes:
        index: ids that were asked for.
        found: what :meth:`ShardPairs.batch` gives of them.
    """

    index: list[int]
    found: tuple[dict[str, Any], list[Problem]]


class ShardReads(Reads):
    """Whole batches of shards, which the loader decodes in its workers if it has any.

    Args:
        pairs: the training split.
        seed: seed of the order.
        buffer: samples that are shuffled with each other.

    Attributes:
        epoch: the one whose order is next; all wrappers of a loader pass ``set_epoch`` on to its
            data set.
    """

    def __init__(self, pairs: ShardPairs, seed: int, buffer: int) -> None:
        super().__init__(len(pairs))
        self.pairs = pairs
        self.seed = seed
        self.buffer = buffer
        self.epoch = 0

    def __getitems__(self, ids: list[int]) -> Reading:
        return Reading(ids, self.pairs.batch(ids))

    def set_epoch(self, epoch: int) -> None:
        """Give the order of this epoch from now on."""
        self.epoch = epoch

    def order(self) -> EpochOrder:
        """Return the order of all processes' samples in the current epoch."""
        return epoch_order(self.pairs.catalogue, self.buffer, self.seed, self.epoch)

    def sampler(self) -> ShardSampler:
        """Return the positions in epoch order, identical on every process."""
        return ShardSampler(self)

    def collate(self, reading: Any) -> dict[str, Any]:
        """Return a batch that was read, for the store."""
        index = BatchIndex(torch.tensor(reading.index, dtype=torch.int64))
        return {"index": index, "reading": reading}


class ShardSampler(Sampler[int]):
    """The ids of an epoch in the order of :class:`EpochOrder`; skipping some reads nothing.

    Args:
        reads: whose epoch it is.
    """

    def __init__(self, reads: ShardReads) -> None:
        self.reads = reads

    def __len__(self) -> int:
        return len(self.reads)

    def __iter__(self) -> Iterator[int]:
        order = self.reads.order()
        for start, stop in pairwise(order.bounds.tolist()):
            yield from order.ids(start, stop).tolist()


def epoch_order(catalogue: Catalogue, buffer: int, seed: int, epoch: int) -> EpochOrder:
    """Return the order of an epoch.

    Raises:
        ValueError: a row group larger than the buffer.
    """
    return EpochOrder(catalogue, seed=seed, epoch=epoch, buffer=buffer, run=min(_RUN, buffer))
