"""Rows of the splits of configured data, which are given or divided, before pixels are held."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from datasets import Dataset

from tauten.data.decoder import Decoder
from tauten.data.pairs import read_pairs
from tauten.data.pixels import unreadable
from tauten.data.sources import Request
from tauten.structure.cells import texts_of
from tauten.training.options.config import DataConfig
from tauten.training.stores.clips import located
from tauten.training.stores.columns import check_columns
from tauten.training.stores.held_out import assign, realised
from tauten.training.stores.named import is_named, named_split, named_splits
from tauten.training.stores.pair_data import SPLITS, Split
from tauten.training.stores.rows import one_per_picture

logger = logging.getLogger("tauten.training")

_VALIDATION = frozenset({"val", "valid", "validation", "dev"})


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
