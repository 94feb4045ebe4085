"""An open video file, read with PyAV."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from PIL import Image


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
        self.av = _av()
        try:
            self.container = self.av.open(str(path))
        except (self.av.FFmpegError, OSError) as error:
            raise ValueError(f"{path} is not a readable video: {error}") from error
        if not self.container.streams.video:
            self.container.close()
            raise ValueError(f"{path} has no video stream")
        self.stream = self.container.streams.video[0]
        self.stream.thread_type = "AUTO"
        self.stream.codec_context.thread_count = threads
        self.origin = float((self.stream.start_time or 0) * self.stream.time_base)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *details: object) -> None:
        self.container.close()

    @property
    def duration(self) -> float:
        """Seconds, as the file says.

        Raises:
            ValueError: it does not say.
        """
        stream, container = self.stream, self.container
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        if container.duration is not None:
            return float(container.duration / self.av.time_base)
        raise ValueError(f"{self.path} does not say how long it is: give the clip a stop")

    def pictures(self, times: list[float], overrun: float) -> list[Image.Image]:
        """The frame shown at each time; after the end, the last one.

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
        """Pictures for the times before the end, the last picture, and the end, all as decoded."""
        start = int((times[0] + self.origin) / self.stream.time_base)
        self.container.seek(start, stream=self.stream, backward=True)
        shown: list[Image.Image] = []
        last, end = None, 0.0
        for frame in self.container.decode(self.stream):
            if frame.pts is None:
                continue
            begins = float(frame.pts * self.stream.time_base) - self.origin
            while last is not None and len(shown) < len(times) and times[len(shown)] < begins:
                shown.append(last.to_image())
            if len(shown) == len(times):
                return shown, None, begins
            last, end = frame, begins + self._length(frame)
        while last is not None and len(shown) < len(times) and times[len(shown)] <= end:
            shown.append(last.to_image())
        return shown, None if last is None else last.to_image(), end

    def _length(self, frame: Any) -> float:
        if frame.duration:
            return float(frame.duration * self.stream.time_base)
        return float(1 / self.stream.average_rate) if self.stream.average_rate else 0.0
