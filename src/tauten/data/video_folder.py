"""A video as a folder: of numbered frames, or of files named by the second they begin at."""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from torch import Tensor

from tauten.data.orientation import upright
from tauten.data.spans import check_span, positions
from tauten.data.video_file import Video

if TYPE_CHECKING:
    from tauten.data.video import Clip

_NUMBER = re.compile(r"(\d+)\.(?:jpe?g|png|webp)$", re.IGNORECASE)
_PIECE = re.compile(r"(\d+)\.(?:mp4|mkv|webm)", re.IGNORECASE)


def from_folder(clip: Clip, inside: Tensor, overrun: float, threads: int) -> list[Image.Image]:
    """Return the frames of a part of a video whose path is a folder; see ``load_clip``."""
    _check_one_series(clip.path, clip.path.stat().st_mtime_ns)
    if is_cut(clip.path):
        return _from_pieces(clip, inside, overrun, threads)
    return _from_frames(clip, inside, overrun)


def is_cut(folder: Path) -> bool:
    """Tell a folder of files named by the second they begin at, such as 0.mp4 and 15.mp4.

    One name is looked at.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            if _frame(entry.name):
                return False
            if _PIECE.fullmatch(entry.name):
                return True
    return False


@lru_cache(maxsize=4096)
def _check_one_series(folder: Path, changed: int) -> None:
    """Refuse frames of several videos, the same frame twice, or frames beside pieces.

    A folder is listed once until it changes.

    Raises:
        ValueError: with the number of each kind.
    """
    series: Counter[str] = Counter()
    with os.scandir(folder) as entries:
        for entry in entries:
            if _PIECE.fullmatch(entry.name):
                series["pieces of a video"] += 1
            elif match := _frame(entry.name):
                series[f"{entry.name[: match.start(1)]}*{entry.name[match.end(1) :].lower()}"] += 1
    if len(series) > 1:
        said = ", ".join(f"{name}: {count:,}" for name, count in sorted(series.items()))
        raise ValueError(
            f"{folder} holds several series of frames ({said}): put each into a folder of its own"
        )


def _frame(name: str) -> re.Match[str] | None:
    """Return the number of a frame's file; hidden files are none."""
    return None if name.startswith(".") else _NUMBER.search(name)


def _from_pieces(clip: Clip, inside: Tensor, overrun: float, threads: int) -> list[Image.Image]:
    files = {
        int(match[1]): file
        for file in clip.path.iterdir()
        if (match := _PIECE.fullmatch(file.name))
    }
    begins, unit = sorted(files), clip.fps or 1.0
    start = begins[0] if clip.start is None else clip.start / unit
    stop = math.inf if clip.stop is None else clip.stop / unit
    last = begins[max(bisect_left(begins, stop) - 1, 0)]
    with Video(files[last], threads) as video:
        end = last + video.duration
    stop = end if clip.stop is None else stop
    check_span(clip.path, start, stop, end, overrun, "s")
    if start < begins[0]:
        raise ValueError(f"{clip.path} begins at {begins[0]} s: no clip from {start:.6g} s in it")
    times = (start + positions(stop - start, inside)).tolist()
    pictures: list[Image.Image] = []
    for begin, part in groupby(times, lambda t: begins[max(bisect_right(begins, t) - 1, 0)]):
        local = [time - begin for time in part]
        with Video(files[begin], threads) as video:
            check_span(files[begin], 0.0, local[-1], video.duration, overrun, "s")
            pictures += video.pictures(local, overrun)
    return pictures


def _from_frames(clip: Clip, inside: Tensor, overrun: float) -> list[Image.Image]:
    if clip.fps is None and (clip.start is not None or clip.stop is not None):
        raise ValueError(f"{clip.path}: a folder of frames needs fps with start and stop")
    if clip.start is not None and clip.stop is not None:
        named = _named_frames(clip.path, clip.start, clip.stop, inside)
        if named:
            return [_opened(file) for file in named]
    files = {int(match[1]): file for file in clip.path.iterdir() if (match := _frame(file.name))}
    if not files:
        raise ValueError(f"no numbered frames in {clip.path}, such as frame_0000000001.jpg")
    numbers = sorted(files)
    start = float(numbers[0]) if clip.start is None else clip.start
    stop = numbers[-1] + 1.0 if clip.stop is None else clip.stop
    slack = overrun * (clip.fps or 0.0)
    check_span(clip.path, start, stop, numbers[-1] + 1.0, slack, "frames")
    wanted = (start + positions(stop - start, inside)).floor().tolist()
    nearest = [numbers[max(bisect_right(numbers, number) - 1, 0)] for number in wanted]
    distance = max(abs(a - b) for a, b in zip(wanted, nearest, strict=True))
    if distance > slack:
        raise ValueError(f"{clip.path}: frames are missing, up to {distance:.0f} in a row")
    return [_opened(files[number]) for number in nearest]


def _named_frames(folder: Path, start: float, stop: float, inside: Tensor) -> list[Path]:
    """Return the frames of a clip by the form of one name, without listing the folder;
    [] if not so.
    """
    with os.scandir(folder) as entries:
        match = next((match for entry in entries if (match := _frame(entry.name))), None)
    if match is None:
        return []
    name, (begin, end) = match.string, match.span(1)
    wanted = (start + positions(stop - start, inside)).floor().int().tolist()
    # where the last frame of the clip is there too, it does not end after its video
    numbers = [*wanted, math.ceil(stop) - 1]
    files = [folder / f"{name[:begin]}{n:0{end - begin}d}{name[end:]}" for n in numbers]
    return files[:-1] if all(file.is_file() for file in files) else []


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            return upright(picture)
    except Exception as error:  # decoders raise errors of any kind
        raise ValueError(f"{file}: unreadable image: {error}") from error
