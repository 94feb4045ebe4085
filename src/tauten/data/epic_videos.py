"""Places of the videos of EPIC-KITCHENS-100: a file or a folder for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tauten.data.epic_kitchens import EpicKitchens
from tauten.data.video import Clip
from tauten.data.video_folder import is_cut
from tauten.files import expanded

#: below the root: as downloaded, and simpler forms
_ROOTS = ("", "EPIC-KITCHENS/")
_FILES = ("{person}/videos/{video}", "{person}/{video}", "videos/{video}", "{video}")
_SUFFIXES = (".MP4", ".mp4")
_FRAMES = ("{person}/rgb_frames/{video}", "rgb_frames/{video}", "{person}/{video}", "{video}")

REMEDY = (
    "Videos are looked for as P01/videos/P01_01.MP4 (or P01/, videos/, or the folder itself), "
    "frames as P01/rgb_frames/P01_01/frame_0000000001.jpg (or rgb_frames/P01_01, P01/P01_01, "
    "P01_01), pieces as P01/P01_01.MP4/0.mp4: get them from epic-kitchens.github.io. Without "
    "videos train on features: data.features=FILE, model.image=features, data.frames=0"
)


def find_video(root: Path, video: str) -> Path:
    """Return the file of a video, else the folder of its parts, else where the file should be.

    Args:
        root: the folder that was given.
        video: such as "P01_01".
    """
    person = video.partition("_")[0]
    forms = [form + suffix for form in _FILES for suffix in _SUFFIXES]
    places = [
        root / f"{above}{form.format(person=person, video=video)}"
        for form in (*forms, *_FRAMES)
        for above in _ROOTS
    ]
    return next((place for place in places if place.exists()), places[0])


def epic_clips(root: str | Path, data: EpicKitchens) -> list[Clip]:
    """Return the part of a video that each clip is; whether the video is there is not checked.

    In a file or in pieces it is a range of seconds; in a folder of frames one of frame numbers,
    which the official annotations have.

    Args:
        root: the folder of the annotations.
        data: a split.

    Returns:
        One for each of the N clips.

    Raises:
        ValueError: frames for which the annotations have no numbers.
    """
    folder = expanded(root)
    paths = {video: find_video(folder, video) for video in dict.fromkeys(data.video_id)}
    folders = {video for video, path in paths.items() if path.is_dir() and not is_cut(path)}
    return [
        _frames(paths[video], frames, seconds) if video in folders else Clip(paths[video], *seconds)
        for video, seconds, frames in zip(
            data.video_id, data.seconds.tolist(), data.frame_numbers.tolist(), strict=True
        )
    ]


def _frames(folder: Path, numbers: Sequence[int], seconds: Sequence[float]) -> Clip:
    first, stop = numbers
    if first < 0:
        raise ValueError(
            f"{folder}: the annotations say no frame numbers, so that frames cannot be found by "
            "them: EPIC_100_retrieval_train.csv has start_frame and stop_frame; or give the videos "
            "as files"
        )
    return Clip(folder, first, max(stop, first + 1), fps=max(stop, 1) / seconds[1])
