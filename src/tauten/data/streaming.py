"""Batches of pairs straight from shards, to be stopped and resumed anywhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch
from datasets import IterableDataset
from torch import distributed
from torch.utils.data import DataLoader, Dataset

from tauten.data.epoch_order import EpochOrder
from tauten.data.iterable import as_iterable
from tauten.data.problems import Problem, Skipped
from tauten.data.shard_pairs import ShardPairs

logger = logging.getLogger("tauten.data")

_PROBED = 8


class PairStream:
    """Batches of an epoch of shards, in an order that is a function of seed and epoch.

    ``for batch in stream`` gives what is left of the current epoch, and then moves to the next one.
    A batch has `index` (n,) int64, `image`, `caption` and the other columns, as from
    :meth:`ShardPairs.batch`. With W processes, process r has its share of each stretch of
    W · batch_size samples of one common order, so that together they give each sample once per
    epoch. All processes give the same number of batches. A last stretch that is shorter is shared
    evenly: shares differ by one row at most, and some have none where samples are fewer than
    processes.

    A sample that cannot be used is left out of its batch, which is then shorter, or empty, and
    counted in `skipped`. Nothing is filled in from later samples: so processes keep in step
    without a word between them. The losses of tauten are exact on such uneven shares.

    The state is the position in the order. It may be loaded with another number of processes or
    workers or another batch size, and the remaining samples of the epoch still come once each.

    Reading and decoding happen in `workers` processes (:class:`torch.utils.data.DataLoader`), or
    without any, when a batch is asked for. Neither changes a batch. Memory holds the batches in
    flight, two per worker, and of parquet files at most `buffer` rows per process.

    Why not the streaming of Hugging Face `datasets`: its samples have no ids, its shuffle buffer is
    refilled with other samples on resuming (as its ``state_dict`` says), and it reads a tar from
    the start to get to a position. :meth:`as_dataset` gives the same order as such a data set.

    Args:
        pairs: what is read and how.
        batch_size: rows of this process in a batch.
        seed: seed of the order.
        shuffle: False for the order of ids.
        buffer: samples that are shuffled with each other, see :class:`EpochOrder`.
        run: neighbours in a tar that stay together until then.
        drop_last: leave out the last stretch if it is shorter.
        strict: raise at the first sample that cannot be used.
        workers: processes that read and decode.
        rank: number of this process; by default that of ``torch.distributed``, or 0.
        world_size: number of processes; by default that of ``torch.distributed``, or 1.

    Attributes:
        epoch: the current one, from 0.
        position: samples of it that were given, by all processes together.
        skipped: those of it that could not be used.

    Raises:
        ValueError: a number out of range; no batch in an epoch; 8 samples spread over the data of
            which none can be used, with the reason.
    """

    def __init__(
        self,
        pairs: ShardPairs,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        buffer: int = 8192,
        run: int = 256,
        drop_last: bool = False,
        strict: bool = False,
        workers: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if batch_size < 1 or workers < 0:
            raise ValueError(
                f"need batch_size >= 1 and workers >= 0, got {batch_size} and {workers}"
            )
        if (rank is None) != (world_size is None):
            raise ValueError("rank and world_size belong together: give both or none")
        self._ask = rank is None
        self.rank = _rank() if rank is None else rank
        self.world_size = _world_size() if world_size is None else world_size
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank {self.rank} is not one of {self.world_size}")
        self.pairs = pairs.holding(buffer)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.strict = strict
        self.workers = workers
        self._order: dict[str, Any] = {
            "seed": seed,
            "shuffle": shuffle,
            "buffer": buffer,
            "run": run,
        }
        self.epoch = 0
        self.position = 0
        self.skipped = Skipped()
        self.order(0)
        if len(self) == 0:
            raise ValueError(
                f"{len(pairs)} samples are fewer than one batch of {self.world_size} x "
                f"{batch_size} and drop_last=True: lower batch_size"
            )
        _probe(pairs)

    def __len__(self) -> int:
        """Return batches of a whole epoch, the same on all ranks."""
        return self._batches(0)

    @property
    def remaining(self) -> int:
        """Batches that the current epoch still gives."""
        return self._batches(self.position)

    def _batches(self, position: int) -> int:
        left, stretch = len(self.pairs) - position, self.batch_size * self.world_size
        return left // stretch if self.drop_last else -(-left // stretch)

    def order(self, epoch: int) -> EpochOrder:
        """Return the order of the samples of an epoch, of all ranks."""
        return EpochOrder(self.pairs.catalogue, epoch=epoch, **self._order)

    def as_dataset(self, epoch: int = 0) -> IterableDataset:
        """Return an epoch of all processes as a Hugging Face data set; see :func:`as_iterable`."""
        return as_iterable(self.pairs, self.order(epoch))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches that are left of the epoch; only one iteration runs at a time."""
        if self._ask:
            self._agree()
        if self.position == 0:
            self.skipped = Skipped()
        stretch = self.batch_size * self.world_size
        batches = _Batches(self, self.order(self.epoch))
        loader = DataLoader(
            batches,
            batch_size=None,
            num_workers=self.workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # the global one is left alone
        )
        for batch, problems in loader:
            self.position = min(self.position + stretch, len(self.pairs))
            self.skipped.add(problems)
            yield batch
        self._log()
        self.epoch, self.position = self.epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream, as numbers and texts; batches count once given."""
        return {
            "fingerprint": self.pairs.catalogue.fingerprint,
            "samples": len(self.pairs),
            "order": dict(self._order),
            "epoch": self.epoch,
            "position": self.position,
            "skipped": asdict(self.skipped),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken.

        Raises:
            ValueError: a state of other data, or of another order.
        """
        ours = self.state_dict()
        lacking = sorted(ours.keys() - state.keys())
        if lacking:
            raise ValueError(f"this is no state of a PairStream: it has no {', '.join(lacking)}")
        if state["fingerprint"] != ours["fingerprint"]:
            raise ValueError(
                f"this state is of other data: {state['samples']} samples, fingerprint "
                f"{state['fingerprint']}; these are {ours['samples']}, {ours['fingerprint']}"
            )
        if state["order"] != ours["order"]:
            raise ValueError(
                f"this state is of another order, {state['order']}: it goes on only with the same "
                f"settings, not with {ours['order']}"
            )
        self.epoch, self.position = state["epoch"], state["position"]
        self.skipped = Skipped(**state["skipped"])

    def _agree(self) -> None:
        """Refuse processes that would not give parts of one order."""
        if self.world_size == 1:
            return
        state = self.state_dict() | {"batch_size": self.batch_size, "drop_last": self.drop_last}
        del state["skipped"]
        states: list[Any] = [None] * self.world_size
        distributed.all_gather_object(states, state)
        for rank, other in enumerate(states):
            unequal = [name for name in state if other[name] != states[0][name]]
            if unequal:
                name = unequal[0]
                raise ValueError(
                    f"the ranks stream different things: {name} is {states[0][name]} on rank 0 "
                    f"and {other[name]} on rank {rank}"
                )

    def _log(self) -> None:
        if self.skipped.count:
            logger.warning(
                "epoch %d: skipped %d samples (%s); first: %s",
                self.epoch,
                self.skipped.count,
                ", ".join(f"{count} {kind}" for kind, count in self.skipped.kinds.items()),
                self.skipped.first[0],
            )


class _Batches(Dataset[tuple[dict[str, Any], list[Problem]]]):
    """The batches of one process from a position on, by number: what a worker makes."""

    def __init__(self, stream: PairStream, order: EpochOrder) -> None:
        self.pairs = stream.pairs
        self.order = order
        self.strict = stream.strict
        self.start = stream.position
        self.stretch = stream.batch_size * stream.world_size
        self.rank, self.world_size = stream.rank, stream.world_size
        self.count = stream.remaining

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[dict[str, Any], list[Problem]]:
        if number >= self.count:
            raise IndexError(number)
        first = self.start + number * self.stretch
        size = min(self.stretch, len(self.order) - first)
        bounds = [first + size * (self.rank + k) // self.world_size for k in (0, 1)]
        batch, problems = self.pairs.batch(self.order.ids(*bounds).tolist())
        if problems and self.strict:
            raise ValueError(str(problems[0]))
        return batch, problems


def _as_it_is(batch: Any) -> Any:
    return batch


def _probe(pairs: ShardPairs) -> None:
    """Refuse data of which nothing can be used: most likely a wrong column."""
    ids = sorted({k * (len(pairs) - 1) // (_PROBED - 1) for k in range(_PROBED)})
    batch, problems = pairs.batch(ids)
    if len(batch["index"]) == 0:
        raise ValueError(
            f"none of {len(ids)} samples spread over the data can be used; first: {problems[0]}"
        )


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _rank() -> int:
    return distributed.get_rank() if _distributed() else 0


def _world_size() -> int:
    return distributed.get_world_size() if _distributed() else 1
