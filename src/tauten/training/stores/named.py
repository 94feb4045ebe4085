"""Data sets known by name, whose folder is given: NAME:FOLDER."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from datasets import Dataset

from tauten.data.catalogue import Catalogue
from tauten.data.emoji_video import base_of
from tauten.data.readers import READERS, Collection, Entry, read, to_dataset
from tauten.data.readers.conceptual import ShardSamples
from tauten.training.options.config import DataConfig
from tauten.training.stores.pair_data import Split

logger = logging.getLogger("tauten.training")


def is_named(source: str, name: str | None = None) -> bool:
    """Return whether a source is NAME:FOLDER, of a data set that ``tauten data list`` lists.

    Args:
        source: of the data.
        name: that one alone.
    """
    prefix, colon, _ = source.partition(":")
    return bool(colon) and (prefix in READERS if name is None else prefix == name)


def root_of(source: str, option: str = "--data") -> Path:
    """Return the folder of NAME:FOLDER.

    Args:
        source: NAME:FOLDER; of what is installed NAME: alone.
        option: by which it was given.

    Raises:
        ValueError: there is none, with what it would be and where it comes from.
    """
    name, _, root = source.partition(":")
    reader = READERS[name]
    if not root and reader.usual is not None:
        return reader.usual()
    if not root:
        raise ValueError(
            f"the folder of {name} is missing: give {option} {name}:FOLDER. It is {reader.about}, "
            f"from {reader.source}; 'tauten data check {name} --root FOLDER' says whether it is "
            "as it should be"
        )
    return Path(root)


def named_splits(config: DataConfig, splits: Sequence[Split]) -> dict[Split, Dataset]:
    """Load the splits of a data set known by name.

    Where there is no test split, the published validation split is it. Where there is no other to
    validate on, a share of the training split is held out by a hash of its ids; of emoji_video
    all variants of a base stay together. Neither is needed where ``data.val`` and ``data.test``
    give others.

    Raises:
        FileNotFoundError: no such folder, or not the annotations.
        ValueError: no folder, or a split that is not there.
    """
    name = config.source.partition(":")[0]
    datasets = dict(_read(config.source).splits)
    alone = config.val is not None and config.test is not None
    if "train" not in datasets or not (alone or {"val", "test"} & set(datasets)):
        raise ValueError(
            f"{config.source} has the splits {sorted(datasets)}: train and val are needed, or give "
            "others as data.val and data.test"
        )
    if config.test is None and "test" not in datasets:
        datasets["test"] = datasets.pop("val")
    if config.val is None and "val" not in datasets:
        key = base_of if name == "emoji_video" else str
        held = [place(key(entry.id)) < config.held_out for entry in datasets["train"]]
        whole = datasets["train"]
        datasets["val"] = [entry for entry, out in zip(whole, held, strict=True) if out]
        datasets["train"] = [entry for entry, out in zip(whole, held, strict=True) if not out]
    return {split: to_dataset(_described(datasets[split])) for split in splits}


def named_split(source: str, split: Split) -> Dataset:
    """Return the split of this name; where there is only one of val and test, it is either.

    Raises:
        FileNotFoundError: no such folder, or not the annotations.
        ValueError: no folder, or no such split.
    """
    datasets = _read(source, f"--data.{split}").splits
    usable = [name for name in (split, "test", "val") if name in datasets]
    if not usable or (split == "train" and usable[0] != "train"):
        raise ValueError(f"{source} has the splits {sorted(datasets)}: none for {split}")
    return to_dataset(_described(datasets[usable[0]]))


def named_catalogue(source: str) -> Catalogue:
    """Return the catalogue of the training samples in the shards of NAME:FOLDER.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no folder, or its pictures are not in shards.
    """
    samples = _read(source).splits.get("train")
    if not isinstance(samples, ShardSamples):
        raise ValueError(
            f"data.stream reads WebDataset shards, and {source} has none: data.stream=False holds "
            "its pictures in memory"
        )
    return samples.catalogue


@lru_cache(maxsize=4)
def variant_of(source: str) -> str | None:
    """Return the family of splits and fingerprint of a source,
    as ``tauten data check`` prints them.

    Kept for the next run of this process.

    Returns:
        "coco (Karpathy), fingerprint ..."; None for what is not known by name.
    """
    if not is_named(source):
        return None
    collection = _read(source)
    return f"{collection.name} ({collection.variant}), fingerprint {collection.fingerprint()}"


def place(key: str) -> float:
    """Return a place in [0, 1) that depends on the key alone."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def _read(source: str, option: str = "--data") -> Collection:
    return read(source.partition(":")[0], root_of(source, option))


def _described(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the entries with a caption, or all if none has one."""
    captioned = [entry for entry in entries if entry.captions]
    if captioned and len(captioned) < len(entries):
        logger.warning(
            "left out %d of %d without caption", len(entries) - len(captioned), len(entries)
        )
        return captioned
    return entries
