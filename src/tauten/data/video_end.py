"""End of the pictures of a video file, which its header may not give."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from tauten.data.video_clock import Clock

_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
_SLACK = 1.0


def packets_end(path: Path, whole: bool) -> float | None:
    """Return the seconds, from the beginning of its pictures, at which a video's pictures end.

    Packets are read and not decoded, from the last key frame on. A picture without a time follows
    the one before it.

    Args:
        path: path of the file.
        whole: read from its beginning, where a seek can't be believed.

    Returns:
        None: no packet says so, or the file is cut: all its streams end before its stated end.
    """
    status = path.stat()
    return _packets_end(path, whole, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _packets_end(path: Path, whole: bool, size: int, changed: int) -> float | None:
    av = import_module("av")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stated = None if container.duration is None else float(container.duration / av.time_base)
        if not whole and container.duration is not None:
            container.seek(max(container.duration + (container.start_time or 0), 0))
            ends = _ends(container, stream)
            if ends[0] is None:
                container.seek(0)
                ends = _ends(container, stream)
        else:
            ends = _ends(container, stream, whole)
        pictures, anything = ends
    if pictures is None or (not whole and stated is not None and anything < stated - _SLACK):
        return None
    return float(pictures - (stream.start_time or 0) * stream.time_base)


def _ends(container: Any, stream: Any, whole: bool = False) -> tuple[Fraction | None, Fraction]:
    """Return the end of the pictures, and that of any stream, in the file's own time."""
    clock, pictures, anything = Clock(follows=whole), None, Fraction(0)
    length = 1 / stream.average_rate if stream.average_rate else Fraction(0)
    for packet in container.demux():
        is_picture = packet.stream.index == stream.index
        if packet.pts is None and not (is_picture and packet.size and whole):
            continue
        begins = None if packet.pts is None else packet.pts * packet.time_base
        lasts = (packet.duration or 0) * packet.time_base or (length if is_picture else Fraction(0))
        if is_picture:
            pictures = clock.begins(begins, lasts) + lasts
            pictures = clock.end = max(clock.end, pictures)
            anything = max(anything, pictures)
        elif begins is not None:
            anything = max(anything, begins + lasts)
    return pictures, anything


def tagged_end(stream: Any) -> float | None:
    """Return the seconds of a stream's DURATION tag, as in Matroska files; None: it has none."""
    for name, value in stream.metadata.items():
        match = _CLOCK.match(value) if name.upper().startswith("DURATION") else None
        if match is not None:
            hours, minutes, seconds = match.groups()
            return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return None
