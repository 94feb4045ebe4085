"""Small sets in WebDataset tars, one tar for each split: for tests and trials."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry, Member
from tauten.data.readers.files import find
from tauten.data.sources import IMAGE_EXTENSIONS
from tauten.data.tar_index import member_name
from tauten.structure.tables import parse_json

_SPLITS = ("train", "val", "test")


def members(tar: Path) -> dict[str, dict[str, Member]]:
    """Return the places of the members of every sample: key -> extension -> member.

    Raises:
        ValueError: no tar file, or a cut one, with its name.
    """
    by_name: dict[str, dict[str, Member]] = {}
    try:
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                name = member_name(info.name) if info.isfile() else None
                if name is not None:
                    place = Member(tar, info.offset_data, info.size)
                    by_name.setdefault(name[0], {})[name[1]] = place
    except tarfile.TarError as error:
        raise ValueError(f"{tar} is cut or no tar file: {error}") from error
    return by_name


def tars(
    name: str, splits: Sequence[str], label: str | None, group: str | None = None
) -> Callable[[Path], Collection]:
    """Make a reader of NAME-SPLIT.tar with KEY.png or .jpg, and KEY.txt, KEY.json or KEY.cls.

    Args:
        name: name of the set.
        splits: that there are.
        label: key of the json with the class; None: the number in KEY.cls.
        group: key of the json with the coarser class.
    """

    def read(root: Path) -> Collection:
        named = _class_names(root / f"{name}-classes.csv")
        split_of = {
            split: [
                _entry(key, parts, label, group, named)
                for key, parts in members(find(root, [f"{name}-{split}.tar"])).items()
            ]
            for split in splits
        }
        return Collection(name, "tars", split_of)

    return read


def _entry(
    key: str,
    parts: Mapping[str, Member],
    label: str | None,
    group: str | None,
    named: Mapping[str, str],
) -> Entry:
    picture = next((parts[name] for name in IMAGE_EXTENSIONS if name in parts), None)
    if picture is None:
        raise ValueError(f"sample {key} has no picture, only {', '.join(sorted(parts))}")
    about: dict[str, Any] = parse_json(parts["json"].read(), key) if "json" in parts else {}
    text = parts["txt"].read().decode().strip() if "txt" in parts else ""
    if label is None:
        number = parts["cls"].read().decode().strip()
        return Entry(key, picture, (), named.get(number, number))
    coarse = None if group is None else about[group]
    return Entry(key, picture, (text,) if text else (), about[label], coarse)


def _class_names(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as rows:
        return {row["class_id"]: row["text"] for row in csv.DictReader(rows)}


def read_coco35(root: Path) -> Collection:
    """Read 35 photos of MSCOCO with free licences, in Karpathy's layout inside the tar.

    Raises:
        FileNotFoundError: no coco35_photos.tar in the root or its folder coco.
        ValueError: a cut tar, or one without its annotations.
    """
    tar = find(root, ["coco35_photos.tar", "coco/coco35_photos.tar"])
    collection = members(tar)
    try:
        rows = parse_json(collection["karpathy_schema"]["json"].read(), str(tar))["images"]
    except KeyError as error:
        raise ValueError(f"{tar} has no karpathy_schema.json") from error
    splits: dict[str, list[Entry]] = {split: [] for split in _SPLITS}
    for row in rows:
        picture = collection[Path(row["filename"]).stem]["jpg"]
        captions = tuple(sentence["raw"].strip() for sentence in row["sentences"])
        splits[row["split"]].append(Entry(row["filename"], picture, captions))
    return Collection("coco35", "Karpathy's layout", splits)


SMALL_READERS = (
    Reader(
        name="emoji_lt",
        about="emoji_lt at 64 pixels: 1,906 emoji by three artists (at 32 pixels in the package)",
        source="nowhere as tars; tauten.data.emoji_lt, in the package, has it at 32 pixels",
        read=tars("emoji_lt", _SPLITS, "subgroup", "group"),
        figures={
            "train": Figures(3_812, 3_812, 98, 518, 2),
            "val": Figures(909, 909),
            "test": Figures(943, 943),
        },
    ),
    Reader(
        name="emoji_video",
        about="animated emoji as strips of 8 frames of 48 pixels, with their names",
        source="Fluent Emoji Animated (Microsoft, MIT)",
        read=tars("emoji_video", ("train", "val"), "subgroup", "group"),
        figures={"train": Figures(1_454, 1_454, 51, 354, 1), "val": Figures(304, 304, 34)},
    ),
    Reader(
        name="caltech98_lt",
        about="Caltech-101 without faces: 98 classes at 64 pixels, its natural long tail",
        source="data.caltech.edu, doi 10.22002/D1.20086, cropped to 64 pixels",
        read=tars("caltech98_lt", ("train", "test"), None),
        figures={
            "train": Figures(6_768, 0, 98),
            "test": Figures(980, 0, 98, 10, 10),
        },
    ),
    Reader(
        name="coco35",
        about="35 photos of MSCOCO under free licences with their five captions",
        source="cocodataset.org, resized to 256 pixels",
        read=read_coco35,
        figures={"train": Figures(21), "val": Figures(7), "test": Figures(7)},
    ),
)
