"""The training split where it lies: shards whose pictures are read batch by batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from tauten.data import Catalogue, ShardPairs, index_shards
from tauten.data.epoch_order import EpochOrder
from tauten.data.problems import Problem, Skipped
from tauten.training.options.config import DataConfig
from tauten.training.options.pretrained import prepared
from tauten.training.stores.named import is_named, named_catalogue
from tauten.training.stores.pair_data import PairData
from tauten.training.stores.rows import class_names

SKIPPED = "skipped.json"
_RUN = 256
_PROBED = 8


def index_training(config: DataConfig, index: Path, progress: bool = True) -> Catalogue:
    """Index the training shards; of several processes let one call it first.

    Args:
        config: of the data; of NAME:FOLDER the reader keeps the catalogue beside the shards.
        index: the .jsonl file to keep it in otherwise.
        progress: show a bar if it takes long.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no shards, or shards that cannot be read; see :func:`index_shards`.
    """
    if is_named(config.source):
        return named_catalogue(config.source)
    return index_shards(
        config.source, index, allow_truncated=config.allow_truncated, progress=progress
    )


def shard_split(config: DataConfig, index: Path | None) -> PairData:
    """Load the training split with its pictures in shards.

    Raises:
        ValueError: see :func:`index_training`; no ``index``; a row group larger than the buffer;
            no sample has the class column.
    """
    if index is None:
        raise ValueError(
            "with data.stream the training split is read by a training only: evaluate on val or "
            "test, or give other data"
        )
    catalogue = index_training(config, index)
    _order(catalogue, config.buffer, seed=0, epoch=0)
    columns = ["alt_caption"] * (config.alternative > 0) + ["keywords"] * (config.keywords > 0)
    pairs = ShardPairs(
        catalogue,
        image=config.image,
        caption=config.caption,
        image_size=prepared(config),
        columns=columns,
        held=config.buffer,
    )
    return PairData(
        images=torch.empty(0, 3, config.image_size, config.image_size, dtype=torch.uint8),
        captions=[],
        alternatives=[],
        keywords=[],
        labels=None
        if config.label is None
        else class_names(pairs.column(config.label), config.label, config.source),
        fingerprint=catalogue.fingerprint,
        shards=pairs,
        contents=_written(catalogue),
    )


def _written(catalogue: Catalogue) -> str:
    """Return a hash of the shards' names, sizes and modification times; contents take too long."""
    told = [(shard.path.name, shard.size, shard.changed // 10**9) for shard in catalogue.shards]
    return f"shards {hashlib.sha256(repr(told).encode()).hexdigest()[:32]}"


def usable(pairs: ShardPairs) -> int:
    """Return the id of a sample that can be used, of eight spread over the data.

    Raises:
        ValueError: none of them can: most likely a wrong column.
    """
    ids = sorted({k * (len(pairs) - 1) // (_PROBED - 1) for k in range(_PROBED)})
    problems = []
    for i in ids:
        row = pairs.row(i)
        if not isinstance(row, Problem):
            return i
        problems.append(row)
    raise ValueError(
        f"none of {len(ids)} samples spread over the data can be used; first: {problems[0]}"
    )


@dataclass(frozen=True)
class Reading:
    """Raw material of a batch, read and decoded; no tensor is moved to a device with it.

    Attributes:
        index: ids that were asked for.
        found: what :meth:`ShardPairs.batch` gives of them.
    """

    index: list[int]
    found: tuple[dict[str, Any], list[Problem]]


class ShardReads(Dataset[Reading]):
    """The data set of a loader that reads and decodes whole batches, in its workers if it has any.

    Args:
        pairs: the training split.
        seed: of the order.
        buffer: samples that are shuffled with each other.

    Attributes:
        epoch: the one whose order is next; all wrappers of a loader pass ``set_epoch`` on to its
            data set.
    """

    def __init__(self, pairs: ShardPairs, seed: int, buffer: int) -> None:
        self.pairs = pairs
        self.seed = seed
        self.buffer = buffer
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitems__(self, ids: list[int]) -> Reading:
        return Reading(ids, self.pairs.batch(ids))

    def set_epoch(self, epoch: int) -> None:
        """Give the order of this epoch from now on."""
        self.epoch = epoch

    def order(self) -> EpochOrder:
        """Return the order of all processes' samples in the current epoch."""
        return _order(self.pairs.catalogue, self.buffer, self.seed, self.epoch)


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


def collate(reading: Reading) -> dict[str, Tensor | Reading]:
    """Collate a batch that was read."""
    return {"index": torch.tensor(reading.index, dtype=torch.int64), "reading": reading}


def total(parts: Sequence[Skipped]) -> Skipped:
    """Add up what all processes have left out."""
    kinds: Counter[str] = Counter()
    whole = Skipped(sum(part.count for part in parts))
    for part in parts:
        kinds.update(part.kinds)
        whole.first += part.first
    whole.kinds, whole.first = dict(kinds), whole.first[:10]
    return whole


def _order(catalogue: Catalogue, buffer: int, seed: int, epoch: int) -> EpochOrder:
    return EpochOrder(catalogue, seed=seed, epoch=epoch, buffer=buffer, run=min(_RUN, buffer))
