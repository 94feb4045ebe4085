"""YouCook2 clips with their sentences (Zhou et al., AAAI 2018).

Papers measure text-to-video retrieval on different parts of the validation videos, those that could
still be downloaded. The number of clips says which: results of different parts do not compare.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from tauten.data.check import Finding
from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry
from tauten.data.readers.files import find, read_json
from tauten.data.video import Clip

VARIANTS = {
    3_492: "all annotated validation clips",
    3_369: "3,369 clips of 439 videos, as UniVL",
    3_350: "3,350 clips, as HowTo100M (validation_youcook.csv)",
    3_305: "3,305 clips of 430 videos, as VideoCLIP",
}

_ANNOTATIONS = "youcookii_annotations_trainval.json"
_CSV = ("validation_youcook.csv", "validation_youcook_3350_clips.csv")
_SUBSETS = {"training": "train", "validation": "val"}
_FOLDERS = ("raw_videos", "videos", ".")
_SUFFIXES = {".mp4", ".mkv", ".webm", ".avi", ".mov"}


def read_youcook2(root: Path) -> Collection:
    """Read training and validation clips; validation_youcook.csv decides the latter if present.

    Raises:
        FileNotFoundError: neither the annotations nor the csv.
        ValueError: a file that does not parse.
    """
    videos = _videos(root)
    splits: dict[str, list[Entry]] = {}
    try:
        database = read_json(
            find(root, [f"annotations/{_ANNOTATIONS}", _ANNOTATIONS]), ["database"]
        )
    except FileNotFoundError:
        if not _has_csv(root):
            raise
    else:
        splits = {"train": [], "val": []}
        for entry, subset in _annotated(database["database"], root, videos):
            splits[_SUBSETS[subset]].append(entry)
    if _has_csv(root):
        splits["val"] = list(_csv_clips(find(root, _CSV), root, videos))
    count = len(splits["val"])
    variant = VARIANTS.get(count, f"{count:,} validation clips, of no published part")
    remedy = "the published parts have " + ", ".join(f"{n:,}" for n in VARIANTS) + " clips"
    known = Finding("validation part", variant, None, count in VARIANTS, remedy, fatal=False)
    return Collection("youcook2", variant, splits, (known,))


def _has_csv(root: Path) -> bool:
    return any((root / f"{name}{end}").is_file() for name in _CSV for end in ("", ".gz"))


def _videos(root: Path) -> dict[str, Path]:
    """Return video files by id, at any depth of the first folder that has some."""
    for name in _FOLDERS:
        paths = {
            file.stem: file for file in (root / name).rglob("*") if file.suffix.lower() in _SUFFIXES
        }
        if paths:
            return paths
    return {}


def _clip(root: Path, videos: dict[str, Path], video: str, start: float, stop: float) -> Clip:
    return Clip(videos.get(video, root / _FOLDERS[0] / f"{video}.mp4"), start, stop)


def _annotated(
    database: dict[str, dict[str, object]], root: Path, videos: dict[str, Path]
) -> Iterator[tuple[Entry, str]]:
    for video, row in database.items():
        annotations, subset = row["annotations"], row["subset"]
        assert isinstance(annotations, Iterable)
        for one in annotations:
            clip = _clip(root, videos, video, *map(float, one["segment"]))
            text, task = one["sentence"].strip(), str(row["recipe_type"])
            yield Entry(f"{video}_{one['id']}", clip, (text,), task, video), str(subset)


def _csv_clips(file: Path, root: Path, videos: dict[str, Path]) -> Iterator[Entry]:
    raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    rows = csv.DictReader(io.StringIO(raw.decode("utf-8-sig")))
    wanted = {"end", "start", "task", "text", "video_id"}
    if not wanted <= set(rows.fieldnames or ()):
        raise ValueError(f"{file}: need columns {sorted(wanted)}, found {rows.fieldnames}")
    for number, row in enumerate(rows):
        video, start, stop = row["video_id"], float(row["start"]), float(row["end"])
        clip = _clip(root, videos, video, start, stop)
        yield Entry(f"{video}_{number}", clip, (row["text"].strip(),), row["task"], video)


YOUCOOK2 = Reader(
    name="youcook2",
    about="YouCook2: cooking clips with one sentence each; says which validation part it is",
    source="youcook2.eecs.umich.edu/download (annotations, raw_videos)",
    read=read_youcook2,
    figures={"train": Figures(10_337, 10_337), "val": Figures()},
    exact=False,
    needs_media=False,
)
