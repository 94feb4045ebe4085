"""An open video file, read with PyAV."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image

from tauten.data.orientation import display_matrix, shown
from tauten.data.video_clock import Clock
from tauten.data.video_end import packets_end, tagged_end

#: formats whose times after a seek, and whose stated length, are guesses
_GUESSING = ("mpeg",)
#: formats that store the order of decoding only, so that frames are counted
_COUNTED = ("avi",)


def _av() -> Any:
    try:
        return import_module("av")
    except ModuleNotFoundError as error:
        raise ImportError(
            'reading video files needs PyAV, which is not installed: pip install "tauten[video]"'
        ) from error


class Video:
    """An open video file that gives the frames shown at rising times.

    Args:
        path: the file. Use it in a `with` statement.
        threads: that decode it; 0 leaves their number to FFmpeg.

    Raises:
        ImportError: PyAV is not installed.
        ValueError: not a video, or one without pictures, with the file's name.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self.path = path
        self.threads = threads
        self.av = _av()
        self._open()
        self.origin = (self.stream.start_time or 0) * self.stream.time_base

    def _open(self) -> None:
        try:
            self.container = self.av.open(str(self.path))
        except (self.av.FFmpegError, OSError) as error:
            raise ValueError(f"{self.path} is not a readable video: {error}") from error
        if not self.container.streams.video:
            self.container.close()
            raise ValueError(f"{self.path} has no video stream")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = self.threads

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *details: object) -> None:
        self.container.close()

    @property
    def duration(self) -> float:
        """Seconds of its pictures, whatever the length of its sound.

        Raises:
            ValueError: the file does not say.
        """
        stream, container = self.stream, self.container
        if self._is(_GUESSING):
            end = packets_end(self.path, whole=True)
        elif stream.duration is not None:
            end = float(stream.duration * stream.time_base)
        else:
            tagged = tagged_end(stream)
            end = None if tagged is None else tagged - float(self.origin)
            if end is None and (len(container.streams) > 1 or self.origin > 0):
                end = packets_end(self.path, whole=False)
        if end is None and container.duration is not None:
            end = float(container.duration / self.av.time_base)
        if end is None:
            end = packets_end(self.path, whole=True)
        if end is None:
            raise ValueError(f"{self.path} does not say how long it is: give the clip a stop")
        return end

    def _is(self, formats: tuple[str, ...]) -> bool:
        return self.container.format.name in formats

    def pictures(self, times: list[float], overrun: float) -> list[Image.Image]:
        """Return the frame shown at each time, turned as a player does; after the end,
        the last one.

        Args:
            times: seconds from the beginning, rising.
            overrun: seconds before the end that the file states at which its frames may end.

        Raises:
            ValueError: the file is broken or cut, with its name.
        """
        try:
            shown, last, end = self._shown(times)
        except (self.av.FFmpegError, OSError) as error:
            raise ValueError(f"{self.path} is broken: {error}") from error
        missing = len(times) - len(shown)
        if missing and (last is None or end < self.duration - overrun):
            raise ValueError(
                f"{self.path} is cut: it says {self.duration:.3f} s, frames end at {end:.3f} s"
            )
        return shown + ([last] * missing if last is not None else [])

    def _shown(self, times: list[float]) -> tuple[list[Image.Image], Image.Image | None, float]:
        """Return pictures for the times before the end, the last picture, and the end,
        all as decoded.
        """
        chosen: list[Image.Image] = []
        last, end = None, 0.0
        for begins, frame in self._from(times[0]):
            while last is not None and len(chosen) < len(times) and times[len(chosen)] < begins:
                chosen.append(_picture(last))
            if len(chosen) == len(times):
                return chosen, None, begins
            last, end = frame, begins + float(self._length(frame))
        while last is not None and len(chosen) < len(times) and times[len(chosen)] <= end:
            chosen.append(_picture(last))
        return chosen, None if last is None else _picture(last), end

    def _from(self, time: float) -> Iterator[tuple[float, Any]]:
        """Yield frames and when they begin; the first one is shown at this time, or before it.

        A seek may land behind what was asked for: then it is repeated further back.
        """
        untimed = self._is(_GUESSING) or self.stream.start_time is None
        back, target = 0.0, 0.0 if untimed else time
        while target > 0:
            start = int((target + float(self.origin)) / self.stream.time_base)
            self.container.seek(start, stream=self.stream, backward=True)
            frames = self._decoded()
            first = next(frames, None)
            if first is not None and first[0] <= time:
                break
            back = max(1.0, 2 * back)
            target = time - back
        else:
            self.container.close()
            self._open()
            frames = self._decoded()
            first = next(frames, None)
        if first is not None:
            yield first
            yield from frames

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        """Yield frames from here on, in the order they are shown, and when each begins."""
        base = self.stream.time_base
        if not self._is(_COUNTED):
            clock = Clock(follows=self._is(_GUESSING))
            for frame in self.container.decode(self.stream):
                stamp = None if frame.pts is None else frame.pts * base - self.origin
                begins = clock.begins(stamp, self._length(frame))
                clock.end = begins + self._length(frame)
                yield float(begins), frame
            return
        places: deque[int] = deque()
        for packet in self.container.demux(self.stream):
            if packet.size and packet.dts is not None:
                places.append(packet.dts)
            for frame in packet.decode():
                if places:
                    yield float(places.popleft() * base - self.origin), frame

    def _length(self, frame: Any) -> Fraction:
        if frame.duration:
            return Fraction(frame.duration * self.stream.time_base)
        return Fraction(1 / self.stream.average_rate) if self.stream.average_rate else Fraction(0)


def _picture(frame: Any) -> Image.Image:
    return shown(frame.to_image(), display_matrix(frame))
