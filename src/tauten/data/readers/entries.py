"""The common shape of what readers give: named splits of samples, a fingerprint, a data set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset, Features, Image, List, Value

from tauten.data.bitmaps import to_bitmaps
from tauten.data.check import Finding
from tauten.data.video import Clip

_SAMPLED = 64
_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside an uncompressed tar.

    Attributes:
        tar: the tar.
        offset: where its content begins, in bytes.
        size: how long it is.
    """

    tar: Path
    offset: int
    size: int

    def read(self, most: int | None = None) -> bytes:
        """Read the content, or its first `most` bytes."""
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size if most is None else min(most, self.size))


Media = Path | Member | Clip | bytes | str | npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample.

    Attributes:
        id: unique in its split.
        media: a picture's file, its place in a tar, its bytes or pixels (H, W, 3); a part of a
            video; or the first text of a pair of texts.
        captions: texts that describe it, perhaps none.
        label: name or number of its class, or None.
        group: a coarser class, the video a clip is from, or None.
    """

    id: str
    media: Media
    captions: tuple[str, ...] = ()
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Collection:
    """Everything that a reader returns of one data set.

    Attributes:
        name: name of the data set.
        variant: family of splits or annotations.
        splits: samples by split, in the order of the annotations.
        notes: what the reader saw beside the samples.
        listing: hash of all names and sizes, where samples are read from shards one at a time; ""
            where they are held in memory.
    """

    name: str
    variant: str
    splits: Mapping[str, Sequence[Entry]]
    notes: tuple[Finding, ...] = ()
    listing: str = ""

    @property
    def held(self) -> bool:
        """True where the samples are in memory, so that going through them costs nothing."""
        return not self.listing

    def fingerprint(self) -> str:
        """Hash of what was read: same data, same string, wherever they lie.

        It covers the variant, ids, captions, labels and groups of every split in order, and size
        and first 64 KiB of the media of 64 evenly spaced samples; or the variant and `listing`.

        Returns:
            32 hexadecimal digits.
        """
        digest = hashlib.sha256(f"{self.name} {self.variant} {self.listing}".encode())
        if not self.held:
            return digest.hexdigest()[:32]
        for name in sorted(self.splits):
            digest.update(f"\n{name} {len(self.splits[name])}\n".encode())
            for entry in self.splits[name]:
                row = (entry.id, entry.captions, entry.label, entry.group, _span(entry.media))
                digest.update(json.dumps(row).encode())
        for entry in evenly([e for name in sorted(self.splits) for e in self.splits[name]]):
            digest.update(repr(_head(entry.media)).encode())
        return digest.hexdigest()[:32]


def evenly(entries: Sequence[Entry], count: int = _SAMPLED) -> list[Entry]:
    """Return at most `count` evenly spaced samples, first and last among them."""
    places = np.linspace(0, len(entries) - 1, min(count, len(entries))).round().astype(int)
    return [entries[place] for place in places.tolist()]


def to_dataset(entries: Sequence[Entry]) -> Dataset:
    """Convert samples to a Hugging Face data set, as :func:`tauten.data.load_pairs` gives it.

    Files stay where they are; members of tars, pixels and bytes are held in memory.

    Args:
        entries: a split.

    Returns:
        Columns `index` (int64, 0..n-1), `id`, `image` (pictures), `caption` (list of texts),
        `label` and `group` (texts or None). For clips, in place of `image`: `video` (path),
        `start`, `stop`, `fps` (numbers or None), as in :class:`tauten.data.video.Clip`. For pairs
        of texts `image` has the bytes of the first one.

    Raises:
        ValueError: no samples, or of several kinds.
    """
    if not entries:
        raise ValueError("no samples to make a data set of")
    clips = [entry.media for entry in entries if isinstance(entry.media, Clip)]
    if clips and len(clips) < len(entries):
        raise ValueError(f"{len(clips)} clips among {len(entries)} samples: all or none must be")
    texts = [entry.media.encode() for entry in entries if isinstance(entry.media, str)]
    if texts and len(texts) < len(entries):
        raise ValueError(f"{len(texts)} texts among {len(entries)} samples: all or none must be")
    columns: dict[str, Any] = {"index": list(range(len(entries)))}
    features: dict[str, Any] = {"index": Value("int64")}
    if clips:
        columns["video"] = [str(clip.path) for clip in clips]
        features["video"] = Value("string")
        for name in ("start", "stop", "fps"):
            columns[name] = [getattr(clip, name) for clip in clips]
            features[name] = Value("float64")
    elif texts:
        columns["image"], features["image"] = texts, Value("binary")
    else:
        columns["image"] = [stored(entry.media) for entry in entries]
        features["image"] = Image()
    columns["caption"] = [list(entry.captions) for entry in entries]
    features["caption"] = List(Value("string"))
    for name in ("id", "label", "group"):
        columns[name] = [getattr(entry, name) for entry in entries]
        features[name] = Value("string")
    return Dataset.from_dict(columns, features=Features(features))


def stored(media: Media) -> dict[str, Any]:
    """Store a picture as {"bytes", "path"}, one of them None.

    Raises:
        ValueError: a clip, or a text.
    """
    if isinstance(media, str):
        raise ValueError(f"{media[:80]!r} is a text, not a picture")
    if isinstance(media, Clip):
        raise ValueError(f"{media.path} is a video, not a picture")
    if isinstance(media, Path):
        return {"bytes": None, "path": str(media.absolute())}
    if isinstance(media, Member):
        return {"bytes": media.read(), "path": None}
    if isinstance(media, bytes):
        return {"bytes": media, "path": None}
    return {"bytes": to_bitmaps(media[None])[0], "path": None}


def _span(media: Media) -> Any:
    return (media.start, media.stop, media.fps) if isinstance(media, Clip) else None


def _head(media: Media) -> tuple[int, str]:
    """Return size and hash of the first part of the content; of a folder, of its names."""
    path = media.path if isinstance(media, Clip) else media
    if isinstance(path, str):
        path = path.encode()
    if isinstance(path, Member):
        return path.size, _hash(path.read(_HEAD))
    if not isinstance(path, Path):
        content = path if isinstance(path, bytes) else path.tobytes()
        return len(content), _hash(content)
    if path.is_dir():
        names = sorted(file.name for file in path.iterdir())
        return len(names), _hash("\n".join(names).encode())
    if not path.is_file():
        return -1, "missing"
    with path.open("rb") as file:
        return path.stat().st_size, _hash(file.read(_HEAD))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
