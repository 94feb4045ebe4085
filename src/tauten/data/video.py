"""Frames of clips: from video files with PyAV, from folders, from strips."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tauten.data.orientation import upright
from tauten.data.pixels import to_rgb
from tauten.data.sizes import resized
from tauten.data.spans import check_span, drawn, positions
from tauten.data.video_file import Video
from tauten.data.video_folder import from_folder


@dataclass(frozen=True, slots=True)
class Clip:
    """A part of a video, [start, stop).

    Attributes:
        path: a video file; a folder of pictures with numbers, as EPIC-KITCHENS'
            frame_0000000001.jpg; or a folder of pieces of a video, named by the second they begin
            at, such as 0.mp4 and 15.mp4.
        start: where it begins: in seconds, or with `fps` a frame's number. None: the beginning.
        stop: where it ends, in the same unit. None: the end.
        fps: frames per second that `start` and `stop` count in; None: they are seconds. A folder
            of pictures goes by the numbers of its frames, so there a start or stop needs it.
    """

    path: Path
    start: float | None = None
    stop: float | None = None
    fps: float | None = None

    def __post_init__(self) -> None:
        start = 0.0 if self.start is None else self.start
        stop = math.inf if self.stop is None else self.stop
        if not 0 <= start < stop:
            raise ValueError(f"{self.path}: a clip needs 0 <= start < stop, got {start} and {stop}")
        if self.fps is not None and not self.fps > 0:
            raise ValueError(f"{self.path}: fps must be above 0, got {self.fps}")


def sample_positions(
    length: float, frames: int, generator: torch.Generator | None = None
) -> Tensor:
    """Divide [0, length) into equal segments and take one position of each.

    Args:
        length: length of the clip, in any unit, above 0.
        frames: number of segments T, at least 1.
        generator: where in its segment each position is drawn from; None takes the centres.

    Returns:
        (T,) float64 positions, (k + u_k) · length / T with u_k = ½, or uniform in [0, 1).

    Raises:
        ValueError: a value out of range.
    """
    if frames < 1 or not length > 0:
        raise ValueError(f"need frames >= 1 and length > 0, got {frames} and {length}")
    return positions(length, drawn(frames, generator))


def load_clip(
    clip: Clip | Path | str,
    frames: int,
    *,
    size: int | tuple[int, int] | None = None,
    generator: torch.Generator | None = None,
    inside: Tensor | None = None,
    overrun: float = 1.0,
    threads: int = 0,
) -> Tensor:
    """Decode frames spread over a clip; see :func:`sample_positions`.

    Of a file, the frame shown at each position is taken. Decoding starts at the key frame before
    the first of them. Needs ``pip install "tauten[video]"``.

    Args:
        clip: what to read; a path is a whole video.
        frames: number of frames T.
        size: as in :func:`tauten.data.images`; None keeps the video's.
        generator: draws a position in each of T segments; None takes their centres.
        inside: (T,) float64 in [0, 1), positions in their segments that were drawn before, in the
            place of a generator.
        overrun: seconds by which a clip may end after its video, as annotations rounded to seconds
            do; the last frame stands for what is missing.
        threads: that decode a file; 0 leaves their number to FFmpeg. They change no pixel.

    Returns:
        (T, 3, H, W) uint8.

    Raises:
        ImportError: a video file without PyAV.
        ValueError: nothing there, not a video, broken data, or a clip beyond the end of its video,
            with the file's name; a generator beside `inside`, or another number of positions.
    """
    clip = clip if isinstance(clip, Clip) else Clip(Path(clip))
    if not isinstance(frames, int) or frames < 1:
        raise ValueError(f"need frames >= 1, got {frames}: a whole number")
    if inside is None:
        inside = drawn(frames, generator)
    elif generator is not None or inside.shape != (frames,):
        raise ValueError(
            f"inside= needs shape ({frames},) and no generator=, got {tuple(inside.shape)}"
        )
    if clip.path.is_dir():
        pictures = from_folder(clip, inside, overrun, threads)
    elif clip.path.is_file():
        pictures = _from_file(clip, inside, overrun, threads)
    else:
        raise ValueError(f"no such video or folder of frames: {clip.path}")
    return _stack([resized(to_rgb(picture), size) for picture in pictures], str(clip.path))


def load_strip(picture: Image.Image | bytes | Path, frames: int) -> Tensor:
    """Cut a picture of frames side by side, such as 384 x 48 pixels for eight of 48 x 48.

    Args:
        picture: decoded, encoded, or its file.
        frames: number of frames T, from left to right.

    Returns:
        (T, 3, H, W) uint8.

    Raises:
        ValueError: a width that is no multiple of `frames`, or a picture that cannot be read.
    """
    if not isinstance(picture, Image.Image):
        try:
            picture = Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture)
            picture = upright(picture)
        except Exception as error:  # decoders raise errors of any kind
            raise ValueError(f"unreadable strip of frames: {error}") from error
    width, height = picture.size
    if frames < 1 or width % frames:
        raise ValueError(f"a strip {width} pixels wide cannot be {frames} frames side by side")
    step = width // frames
    rgb = to_rgb(picture)
    return _stack([rgb.crop((k * step, 0, (k + 1) * step, height)) for k in range(frames)], "strip")


def video_problem(path: Path) -> str | None:
    """Decode the first and one of the last frames and say what is wrong with a video, if anything.

    Args:
        path: a video file or a folder of frames or pieces.
    """
    try:
        if path.is_dir():
            load_clip(path, 2)
            return None
        with Video(path) as video:
            for time in (0.0, max(video.duration - 1.0, 0.0)):
                video.pictures([time], overrun=1.0)
    except ValueError as error:
        return str(error)
    return None


def _from_file(clip: Clip, inside: Tensor, overrun: float, threads: int) -> list[Image.Image]:
    unit = clip.fps or 1.0
    with Video(clip.path, threads) as video:
        start = (clip.start or 0.0) / unit
        stop = video.duration if clip.stop is None else clip.stop / unit
        check_span(clip.path, start, stop, video.duration, overrun, "s")
        times = start + positions(stop - start, inside)
        return video.pictures(times.tolist(), overrun)


def _stack(pictures: list[Image.Image], where: str) -> Tensor:
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        raise ValueError(f"{where}: frames of several sizes, {sorted(sizes)}: give a size")
    pixels = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
