"""Choice of the samples of one source that are held out for validation and test."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any

from datasets import Dataset

from tauten.structure.cells import counted, short, texts_of
from tauten.training.stores.pair_data import SPLITS, Split

logger = logging.getLogger("tauten.training")

#: samples of a caption on average, above which captions are names of classes
_NAMES = 5
#: samples that may be tied to each other by captions: so many, or this part of a share
_TIED, _PART = 8, 4


def assign(
    dataset: Dataset, share: float, held_out: set[str], source: str, texts: bool = False
) -> list[Split]:
    """Assign samples to splits by a hash of their content.

    Equal images always stay together. Equal captions do so unless captions are names of classes
    (more than five samples each on average), or a caption ties more samples together than a quarter
    of a share and more than eight.

    Args:
        dataset: with the columns image and caption.
        share: of the samples, for each split that is held out.
        held_out: "val", "test" or both.
        source: for messages.
        texts: whether the column image holds texts, which stay with equal captions too.

    Returns:
        The split of each sample; the log has the realised shares.
    """
    pictures = [
        f"sample {row}" if raw is None else _text(raw) if texts else _digest(raw)
        for row, raw in enumerate(raw_images(dataset))
    ]
    captions = _texts(dataset)
    if again := len(pictures) - len(set(pictures)):
        logger.info(
            "%s: %d of %d samples %s an earlier one %s, too: they lie in the "
            "same split, and each is scored as %s of its own",
            source,
            again,
            len(pictures),
            "have a first text that" if texts else "show a picture that",
            "has" if texts else "shows",
            "a query" if texts else "an image",
        )
    limit = max(_TIED, int(share * len(dataset) / _PART))
    groups, dropped = _groups(pictures, captions, limit)
    assigned: list[Split] = []
    for name in groups:
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48
        if place < share and "test" in held_out:
            assigned.append("test")
        elif share <= place < 2 * share and "val" in held_out:
            assigned.append("val")
        else:
            assigned.append("train")
    _log(assigned, groups, dropped, share, source)
    return assigned


def realised(assigned: Sequence[Split]) -> str:
    """Say how many samples each split has."""
    sizes = Counter(assigned)
    return ", ".join(f"{split} {sizes[split]}" for split in SPLITS)


def raw_images(dataset: Dataset) -> list[Any]:
    """Return the bytes or path of each image, as stored."""
    cells = dataset.select_columns(["image"]).with_format("arrow")[:]["image"].to_pylist()
    return [
        cell.get("bytes") or cell.get("path") if isinstance(cell, dict) else cell for cell in cells
    ]


def _groups(
    pictures: Sequence[str], texts: Sequence[Sequence[str]], limit: int
) -> tuple[list[str], Counter[str]]:
    """Return the group of each sample, and captions that tie no samples, with their counts."""
    uses = Counter(text for captions in texts for text in set(captions))
    if uses and uses.total() > _NAMES * len(uses):
        return list(pictures), uses
    dropped: Counter[str] = Counter()
    while True:
        keys = [
            [picture, *(text for text in captions if text not in dropped)]
            for picture, captions in zip(pictures, texts, strict=True)
        ]
        groups = _linked(keys)
        sizes = Counter(groups)
        ties = Counter(
            text
            for group, captions in zip(groups, keys, strict=True)
            if sizes[group] > limit
            for text in set(captions[1:])
        )
        most = max(ties.values(), default=1)
        if most < 2:
            return groups, dropped
        dropped.update({text: count for text, count in ties.items() if 2 * count > most})


def _linked(keys: Sequence[Sequence[str]]) -> list[str]:
    """Return for each sample the smallest key of its connected component, by union-find."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for row in keys:
        for key in row[1:]:
            low, high = sorted((root(row[0]), root(key)))
            parent[high] = low
    return [root(row[0]) for row in keys]


def _log(
    assigned: Sequence[Split],
    groups: Sequence[str],
    dropped: Counter[str],
    share: float,
    source: str,
) -> None:
    logger.info("%s: %s (data.held_out=%g)", source, realised(assigned), share)
    if dropped:
        text, count = dropped.most_common(1)[0]
        logger.warning(
            "%s: %s of many samples, %r of %d: samples with such a caption may lie in different "
            "splits",
            source,
            counted(len(dropped), "caption"),
            short(text.removeprefix("text "), 80),
            count,
        )
    name, size = Counter(groups).most_common(1)[0]
    if size > max(_TIED, share * len(assigned) / 2):
        first = groups.index(name)
        logger.warning(
            "%s: %d of %d samples hang together by equal images, the first is sample %d, and lie "
            "in one split: %s",
            source,
            size,
            len(assigned),
            first,
            realised(assigned),
        )


def _texts(dataset: Dataset) -> list[list[str]]:
    return [[f"text {text}" for text in texts_of(cell)] for cell in dataset["caption"][:]]


def _text(raw: Any) -> str:
    return f"text {raw.decode() if isinstance(raw, bytes) else raw}"


def _digest(raw: Any) -> str:
    content = raw if isinstance(raw, bytes) else str(raw).encode()
    if isinstance(raw, str):
        try:
            with open(raw, "rb") as file:  # noqa: PTH123
                content = file.read()
        except OSError:
            pass
    return f"image {hashlib.sha256(content).hexdigest()}"
