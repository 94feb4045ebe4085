"""MSCOCO 2017 validation captions: captions_val2017.json as it is published."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry
from tauten.data.readers.files import find, media_folder, read_json

_PROBED = 20


def read_coco_val2017(root: Path) -> Collection:
    """Read the 5,000 photos with their captions in the order of the file, as split "val".

    Raises:
        FileNotFoundError: no captions_val2017.json(.gz) in the root or its folder annotations.
        ValueError: a file that does not parse.
    """
    photos, captions = photos_and_captions(root)
    names = [row["file_name"] for row in photos]
    base = media_folder(root, ["val2017", "images/val2017", "images", "."], names[:_PROBED])
    entries = [
        Entry(str(row["id"]), base / row["file_name"], tuple(captions[row["id"]])) for row in photos
    ]
    return Collection("coco_val2017", "captions_val2017", {"val": entries})


def photos_and_captions(root: Path) -> tuple[list[dict[str, Any]], dict[int, list[str]]]:
    """Return the records of the photos in the order of the file, and the captions by their id.

    Raises:
        FileNotFoundError: no captions_val2017.json(.gz) in the root or its folder annotations.
        ValueError: a file that does not parse.
    """
    file = find(root, ["annotations/captions_val2017.json", "captions_val2017.json"])
    content = read_json(file, ["images", "annotations"])
    captions: dict[int, list[str]] = defaultdict(list)
    for row in content["annotations"]:
        captions[row["image_id"]].append(row["caption"].strip())
    return content["images"], captions


COCO_VAL2017 = Reader(
    name="coco_val2017",
    about="MSCOCO 2017 validation: 5,000 photos, 25,014 captions",
    source="cocodataset.org (val2017, annotations_trainval2017)",
    read=read_coco_val2017,
    figures={"val": Figures(5_000, 25_014)},
)
