"""Splits train, val and test of the configured data, which are given or divided."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tauten.data import emoji_lt
from tauten.data.decoder import Decoder
from tauten.data.emoji import ANOTHER, APART
from tauten.training.options.config import DataConfig
from tauten.training.options.pretrained import prepared
from tauten.training.stores.epic import epic_splits
from tauten.training.stores.named import is_named
from tauten.training.stores.pair_data import SPLITS, PairData, Split, as_published
from tauten.training.stores.split_rows import split_rows
from tauten.training.stores.stream import shard_split
from tauten.training.stores.tables import to_pairs
from tauten.training.stores.text_source import TextSource
from tauten.training.stores.unseen import Pairs, unseen


def load_split(
    config: DataConfig, split: Split, progress: bool = True, views: bool = False
) -> PairData:
    """Load one split of the configured data; see :func:`load_splits`."""
    return load_splits(config, (split,), progress=progress, views=views)[split]


def load_splits(
    config: DataConfig,
    splits: Sequence[Split] = SPLITS,
    index: Path | None = None,
    progress: bool = True,
    views: bool = False,
) -> dict[Split, PairData]:
    """Load splits of the configured data; the source is read once for all of them.

    Args:
        config: of the data.
        splits: which.
        index: of ``data.stream`` the file of what is in the training shards.
        progress: show bars for large data.
        views: for two views of a picture: captions are not needed, classes are.

    Raises:
        ValueError: unreadable data, no sample in a split, a missing label column; with `views` a
            sample without a class.
    """
    if config.stream and "train" in splits:
        streamed: dict[Split, PairData] = {"train": shard_split(config, index)}
        others = [split for split in splits if split != "train"]
        return streamed | load_splits(config, others, progress=progress)
    if config.source == "emoji_lt":
        fields = tuple(dataclasses.asdict(config).items())
        return {split: _emoji(fields, split) for split in splits}
    if is_named(config.source, "epic_kitchens"):
        return epic_splits(config, splits, progress)
    if config.unseen and "train" not in splits:
        return {name: load_splits(config, SPLITS, index, progress)[name] for name in splits}
    decoder = _decoder(config)
    parts = split_rows(config, splits, progress, views, decoder)
    given = {"val": config.val, "test": config.test}
    loaded = {
        split: to_pairs(parts[split], config, progress, views, given.get(split), split, decoder)
        for split in splits
    }
    if config.unseen:
        train = loaded["train"]
        loaded |= {
            split: dataclasses.replace(
                loaded[split], unseen=unseen(_texts(loaded[split]), _texts(train), config.unseen)
            )
            for split in splits
            if split != "train"
        }
    return loaded | {
        split: as_published(data, config.protocol)
        for split, data in loaded.items()
        if split == "test" and config.protocol != "all"
    }


def _texts(data: PairData) -> Pairs:
    assert isinstance(data.images, TextSource)
    return data.images.texts, data.captions


def _decoder(config: DataConfig) -> Decoder | None:
    """Return what decodes the pictures that are checked; None where the splits hold no pictures,
    or not all.
    """
    if config.texts or config.frames or config.limit is not None:
        return None
    return Decoder(prepared(config), config.draft)


@lru_cache(maxsize=6)
def _emoji(fields: tuple[tuple[str, Any], ...], split: Split) -> PairData:
    """Return a split of the embedded data, cached for the next run of this process."""
    config = DataConfig(**dict(fields))
    further = {"apart": config.negatives == APART, "another": ANOTHER in config.others}
    return to_pairs(emoji_lt(split, **further), config, split=split)
