"""Clips that stay in their videos and are decoded when they are asked for."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from tauten.data.problems import Problem
from tauten.data.video import Clip, load_clip
from tauten.training import processes

logger = logging.getLogger("tauten.training")

_PROBED = 8
_SAMPLED = 64
_HEAD = 1 << 16


class ClipSource:
    """Clips of videos, of which only those that are asked for are in memory.

    It stands where a tensor (N, T, 3, H, W) uint8 of clips does: ``len``, ``shape``, ``dim()``, and
    ``source[rows]`` for a slice or positions, which takes the frame at the centre of each of T
    equal segments. A batch is decoded by threads.

    Args:
        clips: N parts of videos.
        frames: T.
        size: of frames: an int scales the shorter side to it and cuts the centre square,
            (height, width) scales to exactly that.
        strict: a clip that cannot be read is an error.
        threads: that decode a batch; 0 for one for each CPU core, which processes of one machine
            divide.

    Attributes:
        unreadable: rows that ``source[rows]`` could not read when it was last asked for them, and
            why.

    Raises:
        ValueError: no clips, or a number below 1.
    """

    lazy = True
    texts: ClassVar[Sequence[str]] = ()

    def __init__(
        self,
        clips: Sequence[Clip],
        frames: int,
        size: int | tuple[int, int],
        *,
        strict: bool = False,
        threads: int = 0,
    ) -> None:
        height, width = (size, size) if isinstance(size, int) else size
        if not clips or min(frames, height, width) < 1 or threads < 0:
            raise ValueError(
                f"need clips, frames and a size of 1 or more and threads >= 0, got {len(clips)} "
                f"clips, {frames} frames, size {size}, {threads} threads"
            )
        self.clips = tuple(clips)
        self.size = size
        self.strict = strict
        self.threads = threads or _cores()
        self.shape = torch.Size((len(clips), frames, 3, height, width))
        self.unreadable: dict[int, Problem] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def dim(self) -> int:
        """Return 5: clips, frames, colours, rows and columns."""
        return len(self.shape)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        """Return these clips, (n, T, 3, H, W) uint8; one that cannot be read is black.

        Raises:
            ValueError: with ``strict``, a clip that cannot be read.
        """
        wanted = torch.arange(len(self))[rows]
        pixels, problems = self.read(wanted)
        for place, row in enumerate(wanted.tolist()):
            self.unreadable.pop(row, None)
            if place in problems:
                self.unreadable[row] = problems[place]
        return pixels

    def read(self, rows: Tensor, inside: Tensor | None = None) -> tuple[Tensor, dict[int, Problem]]:
        """Decode these clips.

        Args:
            rows: (n,) long.
            inside: (n, T) float64 in [0, 1), where in its segment each frame is; None for the
                centres.

        Returns:
            (n, T, 3, H, W) uint8; and by place in ``rows`` what is wrong with those that cannot be
            read, which are zeros.

        Raises:
            ValueError: with ``strict``, a clip that cannot be read.
        """
        pixels, problems = self._decode(rows, inside)
        if problems and self.strict:
            raise ValueError(str(next(iter(problems.values()))))
        return pixels, problems

    def _decode(self, rows: Tensor, inside: Tensor | None) -> tuple[Tensor, dict[int, Problem]]:
        pixels = torch.zeros(len(rows), *self.shape[1:], dtype=torch.uint8)

        def fill(place: int, row: int) -> str | None:
            drawn = None if inside is None else inside[place]
            try:
                pixels[place] = load_clip(
                    self.clips[row], self.shape[1], size=self.size, inside=drawn, threads=1
                )
            except ValueError as error:
                return str(error)
            return None

        with ThreadPoolExecutor(self.threads) as pool:
            reasons = list(pool.map(fill, range(len(rows)), rows.tolist()))
        problems = {
            place: Problem(f"clip {row}", f"unreadable clip: {reason}")
            for place, (row, reason) in enumerate(zip(rows.tolist(), reasons, strict=True))
            if reason is not None
        }
        return pixels, problems

    def draw(
        self, rows: Tensor, when: tuple[int, int] | None = None
    ) -> tuple[Tensor, dict[int, Problem]]:
        """Decode these clips for training, each frame drawn from its segment; see :meth:`read`.

        Args:
            rows: (n,) long.
            when: seed and epoch: the frames of a clip follow from them and its row, and a clip that
                cannot be read is left to the caller; None to draw from torch's global generator.
        """
        if when is not None:
            return self._decode(rows, places_inside(*when, rows, self.shape[1]))
        return self.read(rows, torch.rand(len(rows), self.shape[1], dtype=torch.float64))

    def usable(self) -> int:
        """Return a row that can be read, of eight spread over the clips.

        Raises:
            ValueError: none of them can, with the reason of the first; or with ``strict`` one.
        """
        rows = torch.linspace(0, len(self) - 1, min(_PROBED, len(self))).round().long()
        _, problems = self.read(rows)
        usable = [int(row) for place, row in enumerate(rows) if place not in problems]
        if not usable:
            raise ValueError(
                f"none of {len(rows)} clips spread over the data can be read; first: {problems[0]}"
            )
        return usable[0]

    def ids(self) -> Tensor:
        """Return (N,) long, equal for the same part of the same video."""
        seen: dict[Clip, int] = {}
        return torch.tensor([seen.setdefault(clip, len(seen)) for clip in self.clips])

    def fingerprint(self) -> str:
        """Hash of what is asked for: all parts, and 64 evenly spaced videos, wherever they lie.

        Of a file its size and first 64 KiB, of a folder of frames the names.
        """
        spans = [(clip.start, clip.stop, clip.fps) for clip in self.clips]
        digest = hashlib.sha256(json.dumps([self.shape[1:], self.size, spans]).encode())
        count = min(_SAMPLED, len(self))
        for row in torch.linspace(0, len(self) - 1, count).round().long().tolist():
            digest.update(_head(self.clips[row].path))
        return digest.hexdigest()[:32]


def places_inside(seed: int, epoch: int, rows: Tensor, frames: int) -> Tensor:
    """Return (n, T) float64 in [0, 1) for these rows (n,), the same in any batch and process."""
    made = [
        np.random.Generator(np.random.Philox(key=seed, counter=[0, row, epoch, 0])).random(frames)
        for row in rows.tolist()
    ]
    return torch.from_numpy(np.stack(made))


def existing(clips: Sequence[Clip], strict: bool, remedy: str = "") -> list[int]:
    """Return the positions of the clips whose video is present, and log the others.

    Args:
        clips: parts of videos.
        strict: refuse if one is missing.
        remedy: what to do if none is there.

    Raises:
        ValueError: none is there, or with ``strict`` one is not, with their number and the first.
    """
    there = {path: path.exists() for path in dict.fromkeys(clip.path for clip in clips)}
    present = [row for row, clip in enumerate(clips) if there[clip.path]]
    missing = [path for path, is_there in there.items() if not is_there]
    if not missing:
        return present
    said = (
        f"{len(clips) - len(present):,} of {len(clips):,} clips have no video: {len(missing):,} of "
        f"{len(there):,} videos are missing, the first {missing[0]}"
    )
    if strict or not present:
        raise ValueError(f"{said}. {remedy}" if remedy else said)
    if processes.rank() == 0:
        logger.warning("left out clips: %s", said)
    return present


def _cores() -> int:
    """Return this process's share of cores, divided among those that torchrun started here."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (here or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _head(path: Path) -> bytes:
    if path.is_dir():
        with os.scandir(path) as entries:
            return "\n".join(sorted(entry.name for entry in entries)).encode()
    with path.open("rb") as file:
        return f"{path.stat().st_size} ".encode() + hashlib.sha256(file.read(_HEAD)).digest()
