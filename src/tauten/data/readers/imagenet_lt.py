"""ImageNet-LT (Liu et al., CVPR 2019) and ImageNet100-LT (Jiang et al., SDCLR, ICML 2021).

Each split is a list file of lines `path label`, with paths below the folder of ImageNet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry
from tauten.data.readers.files import find, media_folder

_FOLDERS = ("", "split/", "splits/", "split/imagenet-100/", "ImageNet_LT/", "split/ImageNet_LT/")
_PROBED = 20


def read_list(file: Path) -> list[tuple[str, int]]:
    """Read the paths and labels of a list file.

    Args:
        file: lines of a path, white space, and a label, a whole number.

    Raises:
        ValueError: an empty file, or a line of another form, with its number.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        path, _, label = line.strip().rpartition(" ")
        if not path or not label.isdigit():
            raise ValueError(f"{file}, line {number}: expected a path and a label, found {line!r}")
        rows.append((path.strip(), int(label)))
    if not rows:
        raise ValueError(f"{file} is empty")
    return rows


def listed(name: str, variant: str, files: Mapping[str, str]) -> Callable[[Path], Collection]:
    """Make a reader of list files.

    Args:
        name: name of the data set.
        variant: variant of the lists.
        files: list file by split; they may lie in the root or in a folder of splits.
    """

    def read(root: Path) -> Collection:
        splits = {}
        for split, file in files.items():
            rows = read_list(find(root, [f"{folder}{file}" for folder in _FOLDERS]))
            paths = [path for path, _ in rows]
            base = media_folder(root, [".", "imagenet", "ImageNet", "images"], paths[:_PROBED])
            splits[split] = [Entry(path, base / path, (), str(label)) for path, label in rows]
        return Collection(name, variant, splits)

    return read


IMAGENET_LT = Reader(
    name="imagenet_lt",
    about="ImageNet-LT: 115,846 images of 1,000 classes, 1,280 to 5 each",
    source="image-net.org (ILSVRC2012) and the lists of github.com/zhmiao/OpenLongTailRecognition",
    read=listed(
        "imagenet_lt",
        "Liu et al.",
        {
            "train": "ImageNet_LT_train.txt",
            "val": "ImageNet_LT_val.txt",
            "test": "ImageNet_LT_test.txt",
        },
    ),
    figures={
        "train": Figures(115_846, 0, 1000, 1280, 5),
        "val": Figures(20_000, 0, 1000, 20, 20),
        "test": Figures(50_000, 0, 1000, 50, 50),
    },
)

IMAGENET100_LT = Reader(
    name="imagenet100_lt",
    about="ImageNet100-LT: 12,205 images of 100 classes, 1,280 to 6 each",
    source="image-net.org (ILSVRC2012) and the lists of github.com/VITA-Group/SDCLR",
    read=listed(
        "imagenet100_lt",
        "SDCLR/TS",
        {
            "train": "imageNet_100_LT_train.txt",
            "val": "ImageNet_100_val.txt",
            "test": "ImageNet_100_test.txt",
        },
    ),
    figures={
        "train": Figures(12_205, 0, 100, 1280, 6),
        "val": Figures(2_000, 0, 100, 20, 20),
        "test": Figures(5_000, 0, 100, 50, 50),
    },
)
