"""Clips of a data set: strips and small sets of videos in memory, others read when asked for."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from tauten.data import fingerprint
from tauten.data.video import Clip, load_clip, load_strip, sample_positions
from tauten.training.options.config import DataConfig
from tauten.training.options.pretrained import prepared
from tauten.training.stores.clip_source import ClipSource, existing

logger = logging.getLogger("tauten.training")

#: bytes of a split's pixels up to which its videos are decoded once and held
HELD = 2 * 2**30

_BAR_FROM = 2000
_SAMPLED = 64


def decode(
    dataset: Dataset, config: DataConfig, progress: bool = True
) -> tuple[Tensor | ClipSource, Dataset, str]:
    """Decode the clips of a data set that can be read.

    Strips, videos in tars, and up to 2 GiB of pixels of video files are held in memory. Of more
    video files only those are decoded that are asked for, and only a missing one is found here.

    Args:
        dataset: with a column `image` of strips (``data.strip``), of video paths or of encoded
            videos, or with `video`, `start`, `stop` and `fps` as a reader gives them.
        config: number of frames, size, and whether to be strict.
        progress: show a bar for large sets.

    Returns:
        (N, T, 3, H, W) uint8; the rows that they are of; a hash of the content.

    Raises:
        ValueError: with ``data.strict`` the first clip that cannot be read, else if none can.
    """
    pixels_of_all = len(dataset) * config.frames * 3 * config.image_size**2
    if not config.strip and pixels_of_all > HELD and _named(dataset):
        return _asked_for(dataset, config)
    clips: list[Tensor] = []
    readable: list[int] = []
    problems: list[str] = []
    hidden = not progress or len(dataset) < _BAR_FROM
    for row in tqdm(range(len(dataset)), desc="clips", unit=" clips", disable=hidden):
        try:
            clips.append(_clip(dataset[row], config))
            readable.append(row)
        except ValueError as error:
            if config.strict:
                raise
            problems.append(f"row {row}: {error}")
    if not clips:
        raise ValueError(f"none of {len(problems)} clips can be read; the first, {problems[0]}")
    if problems:
        logger.warning(
            "skipped %d of %d clips; the first, %s", len(problems), len(dataset), problems[0]
        )
        dataset = dataset.select(readable)
    pixels = torch.stack(clips)
    return pixels, dataset, _content(dataset, pixels)


def _asked_for(dataset: Dataset, config: DataConfig) -> tuple[ClipSource, Dataset, str]:
    """Return clips that are decoded when they are asked for."""
    rows = dataset.select_columns(_places(dataset))
    clips = [_part(row) for row in rows]
    present = existing(clips, config.strict)
    if len(present) < len(clips):
        dataset = dataset.select(present)
    source = ClipSource(
        [clips[row] for row in present],
        config.frames,
        prepared(config),
        strict=config.strict,
        threads=config.workers,
    )
    rest = fingerprint(dataset.remove_columns(_named(dataset)))
    return source, dataset, hashlib.sha256((rest + source.fingerprint()).encode()).hexdigest()[:32]


def located(dataset: Dataset, column: str, source: str) -> Dataset:
    """Return the column of videos under the name `image`;
    paths in a table are relative to the table.
    """
    if not isinstance(dataset[0][column], str):
        return dataset.rename_column(column, "image")
    paths = [str(Path(source).parent / cell) for cell in dataset[column][:]]
    return dataset.remove_columns(column).add_column("image", paths)


def _clip(row: dict[str, Any], config: DataConfig) -> Tensor:
    """Return (T, 3, H, W) uint8 of one row."""
    size = prepared(config)
    if config.strip:
        frames = load_strip(row["image"], config.strip)
        chosen = sample_positions(config.strip, config.frames).long()
        return _resized(frames[chosen], size)
    stored = row.get("image")
    if isinstance(stored, bytes):
        with tempfile.NamedTemporaryFile(suffix=f".{config.image}") as file:
            file.write(stored)
            file.flush()
            return load_clip(Path(file.name), config.frames, size=size)
    return load_clip(_part(row), config.frames, size=size)


def _part(row: dict[str, Any]) -> Clip:
    """Return the clip that a row with a file describes."""
    if "video" in row:
        return Clip(Path(row["video"]), row["start"], row["stop"], row["fps"])
    return Clip(Path(str(row["image"])))


def _named(dataset: Dataset) -> list[str]:
    """Return the column of paths, if there is one."""
    if "video" in dataset.column_names:
        return ["video"]
    return ["image"] if isinstance(dataset[0].get("image"), str) else []


def _places(dataset: Dataset) -> list[str]:
    """Return the columns that say which part of which file a clip is."""
    return [
        name for name in ("video", "start", "stop", "fps", "image") if name in dataset.column_names
    ]


def _resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    if frames.shape[-2:] == size:
        return frames
    smooth = F.interpolate(frames.float(), size, mode="bicubic", antialias=True)
    return smooth.round().clamp(0, 255).to(torch.uint8)


def _content(dataset: Dataset, pixels: Tensor) -> str:
    """Return the data set's fingerprint; where it does not see the pixels, hash them."""
    paths = _named(dataset)
    if not paths:
        return fingerprint(dataset)
    digest = hashlib.sha256(fingerprint(dataset.remove_columns(paths)).encode())
    count = min(_SAMPLED, len(pixels))
    for place in torch.linspace(0, len(pixels) - 1, count).round().long().tolist():
        digest.update(pixels[place].numpy().tobytes())
    return digest.hexdigest()[:32]
