"""Splits train, val and test of the configured data, which are given or divided."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from datasets import Dataset

from tauten.data import emoji_lt
from tauten.data.decoder import Decoder
from tauten.data.emoji import ANOTHER, APART
from tauten.data.pairs import read_pairs
from tauten.data.pixels import unreadable
from tauten.data.sources import Request
from tauten.structure.cells import texts_of
from tauten.training.options.config import DataConfig
from tauten.training.options.pretrained import prepared
from tauten.training.stores.clips import located
from tauten.training.stores.columns import check_columns
from tauten.training.stores.epic import epic_splits
from tauten.training.stores.held_out import assign, realised
from tauten.training.stores.named import is_named, named_split, named_splits
from tauten.training.stores.pair_data import SPLITS, PairData, Split, as_published
from tauten.training.stores.rows import one_per_picture
from tauten.training.stores.stream import shard_split
from tauten.training.stores.tables import to_pairs
from tauten.training.stores.text_source import TextSource
from tauten.training.stores.unseen import Pairs, unseen

logger = logging.getLogger("tauten.training")

_VALIDATION = frozenset({"val", "valid", "validation", "dev"})


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


def split_rows(
    config: DataConfig,
    splits: Sequence[Split] = SPLITS,
    progress: bool = True,
    views: bool = False,
    decoder: Decoder | None = None,
) -> dict[Split, Dataset]:
    """Read splits as tables, every picture in one row, before anything is held as pixels.

    Args:
        config: of the data, which are no shards that are streamed, not emoji_lt and not
            EPIC-KITCHENS-100.
        splits: which.
        progress: show bars for large data.
        views: as of :func:`load_splits`.
        decoder: that keeps the pixels of what is checked, where all of it is in one of the splits;
            None: it is only checked.

    Raises:
        ValueError: unreadable data, no sample in a split, a column that is not there.
    """
    given = {"val": config.val, "test": config.test}
    shared = [split for split in splits if given.get(split) is None]
    if shared and not config.source:
        raise ValueError(
            "data.source is empty: give emoji_lt, or a folder, table, parquet or tar of pairs"
        )
    parts: dict[Split, Dataset] = {}
    if shared:
        if is_named(config.source):
            parts |= named_splits(config, shared)
        else:
            of_all = decoder if {*splits} == {*SPLITS} else None
            pairs = _pairs(config.source, config, progress, views, of_all)
            parts |= _divide(pairs, config, shared)
    return parts | {
        split: _given(str(given[split]), split, config, progress, views, decoder)
        for split in splits
        if given.get(split)
    }


def _given(
    source: str,
    split: Split,
    config: DataConfig,
    progress: bool,
    views: bool,
    decoder: Decoder | None,
) -> Dataset:
    """Return pairs for one split alone."""
    if is_named(source):
        return named_split(source, split)
    return _pairs(source, config, progress, views, decoder)


@lru_cache(maxsize=6)
def _emoji(fields: tuple[tuple[str, Any], ...], split: Split) -> PairData:
    """Return a split of the embedded data, cached for the next run of this process."""
    config = DataConfig(**dict(fields))
    further = {"apart": config.negatives == APART, "another": ANOTHER in config.others}
    return to_pairs(emoji_lt(split, **further), config, split=split)


def _divide(whole: Dataset, config: DataConfig, splits: Sequence[Split]) -> dict[Split, Dataset]:
    if "split" in whole.column_names:
        return _by_column(whole, config, splits)
    held_out = {s for s, path in (("val", config.val), ("test", config.test)) if path is None}
    assigned = assign(whole, config.held_out, held_out, config.source, config.texts)
    empty = [split for split in splits if split not in assigned]
    if empty:
        raise ValueError(
            f"no sample left in a split of {config.source}, {empty[0]}: data.held_out="
            f"{config.held_out:g} of {len(whole)} samples gives {realised(assigned)} (equal images "
            "stay together); give more data, another data.held_out, or data.val and data.test"
        )
    return {
        split: whole.select([i for i, name in enumerate(assigned) if name == split])
        for split in splits
    }


def _pairs(
    path: str, config: DataConfig, progress: bool, views: bool, decoder: Decoder | None
) -> Dataset:
    videos = bool(config.frames) and not config.strip
    if videos and config.image == "image":
        raise ValueError(
            f"data.frames={config.frames} without data.strip reads videos: set data.image to their "
            f"extension, such as mp4, or in a table to their column (not 'image'), for {path}"
        )
    pairs = read_pairs(
        path,
        Request(
            config.image,
            config.caption,
            "raw" if videos else ("text" if config.texts else "image"),
            allow_truncated=config.allow_truncated,
            class_folders=views,
            bare=views and config.label is None,
            partial=config.others,
        ),
        strict=config.strict,
        progress=progress,
        look=unreadable if decoder is None else decoder.check,
        columns=lambda names: check_columns(config, [*names, config.caption], path),
    )
    if config.texts:
        texts = [text.encode() for text in pairs["image"][:]]  # content, where a text is a path
        pairs = pairs.remove_columns("image").add_column("image", texts)
    if config.label == config.caption and config.label not in pairs.column_names:
        names = [next(iter(texts_of(cell)), None) for cell in pairs["caption"][:]]
        pairs = pairs.add_column(config.label, names)
    if videos:
        return located(pairs, config.image, path)
    plain = views or config.label == "caption"
    if plain:
        return pairs
    return one_per_picture(pairs, config.label, path, config.negatives, config.others)


def _by_column(whole: Dataset, config: DataConfig, splits: Sequence[Split]) -> dict[Split, Dataset]:
    """Divide by the split column; what it has no val or test of is held out of train."""
    given = [str(name).lower() for name in whole["split"][:]]
    unknown = sorted({name for name in given if name not in _VALIDATION | {"train", "test"}})
    if unknown:
        raise ValueError(
            f"the split column holds {unknown[:5]}: it may hold train, val (or valid, validation, "
            "dev) and test"
        )
    names = ["val" if name in _VALIDATION else name for name in given]
    lacking: list[Split] = [
        split for split in ("val", "test") if getattr(config, split) is None and split not in names
    ]
    rows = [row for row, name in enumerate(names) if name == "train"]
    if lacking and rows:
        logger.info(
            "%s: its split column has no %s, held out of train",
            config.source,
            " and no ".join(lacking),
        )
        train = whole.select(rows)
        again = assign(train, config.held_out, {*lacking}, config.source, config.texts)
        for row, name in zip(rows, again, strict=True):
            names[row] = name
    for split in splits:
        if split not in names:
            remedy = "" if split == "train" else f"; give them as data.{split}"
            raise ValueError(
                f"{config.source} has no {split} samples: its split column holds only "
                f"{', '.join(sorted(set(given)))}{remedy}"
            )
    return {
        split: whole.select([row for row, name in enumerate(names) if name == split])
        for split in splits
    }
