"""Readers of the data sets that papers report on, and a check of each.

A reader gives named splits of samples in one shape, :class:`Collection`; :func:`to_dataset` makes
one of them a Hugging Face data set. `tauten data check NAME --root DIR` compares what is on disk
with what was published.
"""

from __future__ import annotations

from pathlib import Path

from tauten.data.check import Report
from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.cifar import CIFAR_READERS
from tauten.data.readers.coco_captions import COCO_VAL2017
from tauten.data.readers.coco_sentences import COCO_SENTENCES
from tauten.data.readers.conceptual import CC3M, CC12M
from tauten.data.readers.entries import Collection, Entry, to_dataset
from tauten.data.readers.epic import EPIC_KITCHENS
from tauten.data.readers.imagenet_lt import IMAGENET100_LT, IMAGENET_LT
from tauten.data.readers.inaturalist import INATURALIST2018
from tauten.data.readers.karpathy import COCO, FLICKR30K, protocol
from tauten.data.readers.movielens import MOVIELENS
from tauten.data.readers.msrvtt import MSRVTT
from tauten.data.readers.python_functions import PYTHON_FUNCTIONS
from tauten.data.readers.small import SMALL_READERS
from tauten.data.readers.youcook2 import YOUCOOK2
from tauten.files import expanded

__all__ = [
    "READERS",
    "Collection",
    "Entry",
    "Figures",
    "Reader",
    "check",
    "protocol",
    "read",
    "to_dataset",
]

#: every data set by its name on the command line
READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        FLICKR30K,
        COCO,
        COCO_VAL2017,
        CC3M,
        CC12M,
        YOUCOOK2,
        MSRVTT,
        EPIC_KITCHENS,
        *CIFAR_READERS,
        IMAGENET_LT,
        IMAGENET100_LT,
        INATURALIST2018,
        COCO_SENTENCES,
        PYTHON_FUNCTIONS,
        MOVIELENS,
        *SMALL_READERS,
    )
}


def read(name: str, root: str | Path) -> Collection:
    """Read the annotations of a data set.

    Args:
        name: one of ``tauten data list``.
        root: its folder.

    Returns:
        Its splits. Media are not opened.

    Raises:
        FileNotFoundError: a file of annotations is not there.
        ValueError: an unknown name, or annotations that do not parse.
    """
    return _get(name).read(_folder(root))


def check(
    name: str, root: str | Path, *, everything: bool = False, progress: bool = True
) -> Report:
    """Compare a data set on disk with what was published.

    Args:
        name: one of ``tauten data list``.
        root: its folder.
        everything: decode all pictures and videos, not 64 evenly spaced ones.
        progress: show bars where it takes long.

    Returns:
        The report. What is wrong with the data is in it, not raised.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: an unknown name.
    """
    return _get(name).check(_folder(root), everything=everything, progress=progress)


def _get(name: str) -> Reader:
    if name not in READERS:
        raise ValueError(f"unknown data set {name!r}; there are {', '.join(READERS)}")
    return READERS[name]


def _folder(root: str | Path) -> Path:
    folder = expanded(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder}")
    return folder
