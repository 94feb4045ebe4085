"""The training split where it lies: shards whose pictures are read batch by batch."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tauten.data import Catalogue, ShardPairs, index_shards
from tauten.data.problems import Problem, Skipped
from tauten.models.tokenizers import Tokenizer
from tauten.structure.cells import texts_of
from tauten.training import processes
from tauten.training.options.config import DataConfig
from tauten.training.options.pretrained import prepared
from tauten.training.stores.named import is_named, named_catalogue
from tauten.training.stores.pair_data import PairData
from tauten.training.stores.rows import class_names
from tauten.training.stores.shard_reads import epoch_order
from tauten.training.stores.shards import ShardStore
from tauten.training.stores.store import Store

SKIPPED = "skipped.json"
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


@dataclass(frozen=True)
class ShardSplit(PairData):
    """A training split whose pictures stay in shards; texts are read anew when asked for.

    Attributes:
        shards: the pairs; images, captions, alternatives and keywords of the split are empty.
    """

    shards: ShardPairs = field(kw_only=True)

    def __len__(self) -> int:
        return len(self.shards)

    def usable(self) -> int:
        """Return the position of a sample that can be used, of eight spread over the data."""
        return usable(self.shards)

    def all_captions(self) -> list[list[str]]:
        """Return the captions of each image, "" where there is none."""
        cells = self.shards.column("caption", missing="", progress=processes.rank() == 0)
        return [texts_of(cell) for cell in cells]

    def texts_beside(self, config: DataConfig) -> tuple[list[str], list[list[str]]]:
        """Return alternative texts and keywords of each image, those that training can show."""
        alternatives, keywords = self.alternatives, self.keywords
        if config.alternative > 0:
            alternatives = self.shards.column("alt_caption", missing="")
        if config.keywords > 0:
            keywords = [texts_of(cell) for cell in self.shards.column("keywords", missing=())]
        return alternatives, keywords

    def store(self, tokenizer: Tokenizer, config: DataConfig, captions: Tensor | None) -> Store:
        """Return the batches of a training on this split."""
        return ShardStore(
            self.shards,
            tokenizer,
            alternative=config.alternative,
            keywords=config.keywords,
            strict=config.strict,
            captions=captions,
            buffer=config.buffer,
            workers=config.workers,
        )


def shard_split(config: DataConfig, index: Path | None) -> ShardSplit:
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
    epoch_order(catalogue, config.buffer, seed=0, epoch=0)
    columns = ["alt_caption"] * (config.alternative > 0) + ["keywords"] * (config.keywords > 0)
    pairs = ShardPairs(
        catalogue,
        image=config.image,
        caption=config.caption,
        image_size=prepared(config),
        columns=columns,
        held=config.buffer,
        draft=config.draft,
    )
    return ShardSplit(
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
    shards = [(shard.path.name, shard.size, shard.changed // 10**9) for shard in catalogue.shards]
    return f"shards {hashlib.sha256(repr(shards).encode()).hexdigest()[:32]}"


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


def total(parts: Sequence[Skipped]) -> Skipped:
    """Add up what all processes have left out."""
    kinds: Counter[str] = Counter()
    whole = Skipped(sum(part.count for part in parts))
    for part in parts:
        kinds.update(part.kinds)
        whole.first += part.first
    whole.kinds, whole.first = dict(kinds), whole.first[:10]
    return whole
