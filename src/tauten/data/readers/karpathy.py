"""Flickr30K and MSCOCO in the splits of Karpathy and Fei-Fei, CVPR 2015: five captions a picture.

`dataset_flickr30k.json` and `dataset_coco.json` hold {"images": [{"filename", "filepath", "split",
"sentences": [{"raw"}]}]}.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from tauten.data.check import equal
from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry
from tauten.data.readers.files import find, media_folder, read_json

Protocol = Literal["1k", "5k", "1k-of-5k"]

_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
_CAPTIONS = 5
_PROBED = 20


def karpathy(
    name: str, files: Sequence[str], folders: Sequence[str]
) -> Callable[[Path], Collection]:
    """Make a reader of Karpathy's format.

    Args:
        name: name of the data set.
        files: where the json may be below the root.
        folders: where the pictures may be below the root.
    """

    def read(root: Path) -> Collection:
        annotations = find(root, files)
        rows = read_json(annotations, ["images"])["images"]
        paths = [_path(row, annotations) for row in rows]
        base = media_folder(root, folders, paths[:_PROBED])
        splits: dict[str, list[Entry]] = {"train": [], "val": [], "test": []}
        for row, path in zip(rows, paths, strict=True):
            splits[_SPLITS[row["split"]]].append(_entry(row, base / path))
        few = sum(len(e.captions) < _CAPTIONS for part in splits.values() for e in part)
        remedy = "the published files have at least five captions a picture"
        note = equal(f"pictures with fewer than {_CAPTIONS} captions", few, 0, remedy)
        return Collection(name, "Karpathy", splits, (note,))

    return read


def _path(row: dict[str, Any], annotations: Path) -> str:
    lacking = [key for key in ("filename", "split", "sentences") if key not in row]
    if lacking or row["split"] not in _SPLITS:
        raise ValueError(
            f"{annotations}: an image needs filename, split ({', '.join(_SPLITS)}) and sentences, "
            f"found {sorted(row)} with split {row.get('split')!r}"
        )
    folder = row.get("filepath", "")
    return f"{folder}/{row['filename']}" if folder else str(row["filename"])


def _entry(row: dict[str, Any], path: Path) -> Entry:
    captions = tuple(sentence["raw"].strip() for sentence in row["sentences"])
    return Entry(id=row["filename"], media=path, captions=captions)


def protocol(entries: Sequence[Entry], name: Protocol) -> list[list[str]]:
    """Return the galleries that retrieval is measured on, as lists of ids;
    metrics are means over them.

    * "1k": the first 1,000 pictures: all of Flickr30K's test split.
    * "5k": all 5,000 of COCO's test split.
    * "1k-of-5k": its five consecutive thousands, each a gallery of its own (VSE++, Faghri et al.,
      BMVC 2018).

    Each picture comes with its captions; rank with the first five of COCO's, as published numbers
    do.

    Args:
        entries: the test split, in the order of the json.
        name: the protocol.

    Returns:
        One list of ids for each gallery.

    Raises:
        ValueError: too few pictures, or another name.
    """
    sizes = {"1k": (1000, 1), "5k": (5000, 1), "1k-of-5k": (1000, 5)}
    if name not in sizes:
        raise ValueError(f"protocol must be one of {', '.join(sizes)}, got {name!r}")
    size, galleries = sizes[name]
    if len(entries) < size * galleries:
        raise ValueError(
            f"protocol {name} needs {size * galleries} pictures, there are {len(entries)}"
        )
    ids = [entry.id for entry in entries]
    return [ids[k * size : (k + 1) * size] for k in range(galleries)]


FLICKR30K = Reader(
    name="flickr30k",
    about="Flickr30K, Karpathy splits: 31,014 photos with five captions",
    source=(
        "cs.stanford.edu/people/karpathy/deepimagesent (dataset_flickr30k.json) and "
        "shannon.cs.illinois.edu/DenotationGraph (flickr30k-images)"
    ),
    read=karpathy(
        "flickr30k",
        ["dataset_flickr30k.json", "annotations/dataset_flickr30k.json"],
        ["flickr30k-images", "flickr30k_images", "images", "."],
    ),
    figures={
        "train": Figures(29_000, 145_000),
        "val": Figures(1_014, 5_070),
        "test": Figures(1_000, 5_000),
    },
)

COCO = Reader(
    name="coco",
    about="MSCOCO 2014, Karpathy splits (restval in train): 123,287 photos, 5 captions or more",
    source=(
        "cs.stanford.edu/people/karpathy/deepimagesent (dataset_coco.json) and cocodataset.org "
        "(train2014, val2014)"
    ),
    read=karpathy(
        "coco",
        ["dataset_coco.json", "annotations/dataset_coco.json"],
        [".", "images"],
    ),
    figures={
        "train": Figures(113_287, 566_747),
        "val": Figures(5_000, 25_010),
        "test": Figures(5_000, 25_010),
    },
)
