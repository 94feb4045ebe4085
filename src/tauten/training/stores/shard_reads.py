"""Batches of shards, read before the step, in an order that is the same on all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor
from torch.utils.data import Sampler

from tauten.data import Catalogue, ShardPairs
from tauten.data.epoch_order import EpochOrder
from tauten.data.problems import Problem
from tauten.training.stores.ahead import TokensAhead, in_pinned_memory
from tauten.training.stores.store import Reads

_RUN = 256


@dataclass(frozen=True)
class ShardReading:
    """Raw material of a batch, read and decoded; no tensor is moved to a device with it.

    Attributes:
        found: what :meth:`ShardPairs.batch` gives of the ids that were asked for.
        image_ids: (n,) long, equal for equal pixels on all processes.
        tokens: of the texts that may be drawn; None where they are tokenised in the step.
    """

    found: tuple[dict[str, Any], list[Problem]]
    image_ids: Tensor
    tokens: TokensAhead | None

    def pin_memory(self) -> ShardReading:
        """Return the same in memory from which a GPU reads without waiting."""
        made: ShardReading = in_pinned_memory(self)
        return made


class ShardReads(Reads):
    """Whole batches of shards, which the loader decodes in its workers if it has any.

    Args:
        pairs: the training split.
        read: makes a reading of ids and the epoch.
        seed: seed of the order.
        buffer: samples that are shuffled with each other.
        workers: processes of the loader that read ahead.
    """

    def __init__(
        self,
        pairs: ShardPairs,
        read: Callable[[list[int], int], ShardReading],
        seed: int,
        buffer: int,
        workers: int = 0,
    ) -> None:
        super().__init__(len(pairs), read, workers)
        self.pairs = pairs
        self.seed = seed
        self.buffer = buffer

    def order(self) -> EpochOrder:
        """Return the order of all processes' samples in the current epoch."""
        return epoch_order(self.pairs.catalogue, self.buffer, self.seed, self.epoch)

    def sampler(self) -> ShardSampler:
        """Return the positions in epoch order, identical on every process."""
        return ShardSampler(self)


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
