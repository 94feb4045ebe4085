"""CIFAR10-LT and CIFAR100-LT in their two published families, from the python pickles of CIFAR.

The families differ in sizes and images: their results do not compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tauten.data.check import Finding, equal
from tauten.data.long_tail import Indices, balanced, exponential_counts, long_tailed, read_indices
from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.cifar_pickle import read_cifar
from tauten.data.readers.entries import Collection, Entry
from tauten.data.readers.files import find

Family = Literal["sdclr", "isogclr"]

_LISTS = ("", "split/", "splits/")
_VALIDATION = "valIdxList.npy"


@dataclass(frozen=True)
class Layout:
    """Files and keys of CIFAR10 or CIFAR100 on disk.

    Attributes:
        folder: below the root.
        train: files of the training images, in order.
        test: file of the test images.
        meta: file of the class names.
        labels: key of the labels.
        names: key of the class names.
        per_class: training images of a class.
        classes: number of classes.
        index: published list of the imbalanced training images, of split 1.
    """

    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str
    per_class: int
    classes: int
    index: str


CIFAR10 = Layout(
    "cifar-10-batches-py",
    tuple(f"data_batch_{k}" for k in range(1, 6)),
    "test_batch",
    "batches.meta",
    "labels",
    "label_names",
    5000,
    10,
    "split1_D_i.npy",
)
CIFAR100 = Layout(
    "cifar-100-python",
    ("train",),
    "test",
    "meta",
    "fine_labels",
    "fine_label_names",
    500,
    100,
    "cifar100_split1_D_i.npy",
)


def long_tailed_cifar(
    name: str, layout: Layout, family: Family, *, seed: int = 0
) -> Callable[[Path], Collection]:
    """Make a reader of one family.

    * "sdclr": of every class a tenth is kept for validation; the rest is drawn with
      n_k = int(0.9 n · 100^(-k / (C - 1))), classes in random order: 11,165 of CIFAR10, 9,754 of
      CIFAR100. The sizes are the published ones. The images are so only with the index files of
      SDCLR in the root or its folder `split`: `split1_D_i.npy`, or `cifar100_split1_D_i.npy`, and
      `valIdxList.npy`. What has no file is drawn from the seed.
    * "isogclr": n_k = int(n · 100^(-k / (C - 1))), class 0 the largest, images drawn with seed 0
      exactly as LDAM and iSogCLR draw them: 12,406 and 10,847. No validation split.

    Args:
        name: name of the data set.
        layout: CIFAR10 or CIFAR100.
        family: which of the two.
        seed: seed of what is drawn.
    """

    def read(root: Path) -> Collection:
        folder = root / layout.folder if (root / layout.folder).is_dir() else root
        images, labels = _joined([_batch(find(folder, [f]), layout) for f in layout.train])
        tests = _joined([_batch(find(folder, [layout.test]), layout)])
        names = [text.decode() for text in read_cifar(find(folder, [layout.meta]))[layout.names]]
        chosen, variant, notes = (
            _sdclr(root, layout, labels, seed)
            if family == "sdclr"
            else _isogclr(layout, labels, seed)
        )
        splits = {
            part: [_entry("train", i, images, labels, names) for i in places.tolist()]
            for part, places in chosen.items()
        }
        splits["test"] = [_entry("test", i, *tests, names) for i in range(len(tests[1]))]
        return Collection(name, variant, splits, notes)

    return read


def _sdclr(
    root: Path, layout: Layout, labels: Indices, seed: int
) -> tuple[dict[str, Indices], str, tuple[Finding, ...]]:
    tenth = layout.per_class // 10
    counts = exponential_counts(layout.per_class - tenth, layout.classes)
    index = _list(root, layout.index)
    if index is None:
        val = balanced(labels, tenth, seed=seed)
        rest = np.setdiff1d(np.arange(len(labels)), val)
        train = rest[long_tailed(labels[rest], counts, seed=seed, shuffle_classes=True)]
        variant = f"SDCLR/TS sizes, images drawn from seed {seed}, not the published ones"
        return {"train": train, "val": val}, variant, ()
    train = read_indices(index, len(labels))
    held = _list(root, _VALIDATION)
    if held is None:
        rest = np.setdiff1d(np.arange(len(labels)), train)
        val = rest[balanced(labels[rest], tenth, seed=seed)]
    else:
        val = read_indices(held, len(labels))
    variant = f"SDCLR/TS, train {index.name}, val {f'seed {seed}' if held is None else held.name}"
    return {"train": train, "val": val}, variant, (_sizes(index, labels[train], counts),)


def _list(root: Path, name: str) -> Path | None:
    try:
        return find(root, [f"{folder}{name}" for folder in _LISTS])
    except FileNotFoundError:
        return None


def _sizes(index: Path, labels: Indices, counts: list[int]) -> Finding:
    sizes = np.sort(np.bincount(labels, minlength=len(counts)))[::-1].tolist()
    same = sum(a == b for a, b in zip(sizes, counts, strict=True))
    remedy = f"{index} is no list of imbalanced training images (D_i)"
    return equal("class sizes as by the formula", same, len(counts), remedy)


def _isogclr(
    layout: Layout, labels: Indices, seed: int
) -> tuple[dict[str, Indices], str, tuple[Finding, ...]]:
    counts = exponential_counts(layout.per_class, layout.classes)
    drawn = long_tailed(labels, counts, seed=seed)
    return {"train": drawn}, f"LDAM/iSogCLR, seed {seed}", ()


def _entry(
    part: str, i: int, images: npt.NDArray[np.uint8], labels: Indices, names: Sequence[str]
) -> Entry:
    return Entry(f"{part}_{i:05d}", images[i], (), names[labels[i]])


def _batch(file: Path, layout: Layout) -> tuple[npt.NDArray[np.uint8], Indices]:
    content = read_cifar(file)
    lacking = [key for key in ("data", layout.labels) if key not in content]
    if lacking:
        raise ValueError(f"{file} has no {' and no '.join(lacking)}, found {sorted(content)}")
    data, labels = content["data"], np.asarray(content[layout.labels], dtype=np.int64)
    if data.dtype != np.uint8 or data.shape != (len(labels), 3072):
        raise ValueError(f"{file}: expected ({len(labels)}, 3072) uint8, found {data.shape}")
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels


def _joined(
    batches: list[tuple[npt.NDArray[np.uint8], Indices]],
) -> tuple[npt.NDArray[np.uint8], Indices]:
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def _reader(name: str, layout: Layout, family: Family) -> Reader:
    largest = layout.per_class - layout.per_class // 10 if family == "sdclr" else layout.per_class
    counts = exponential_counts(largest, layout.classes)
    held, classes = layout.per_class // 10, layout.classes
    figures = {"train": Figures(sum(counts), 0, classes, counts[0], counts[-1])}
    if family == "sdclr":
        figures["val"] = Figures(held * classes, 0, classes, held, held)
    tested = 10_000 // classes
    figures["test"] = Figures(10_000, 0, classes, tested, tested)
    title = "SDCLR and TS" if family == "sdclr" else "LDAM and iSogCLR"
    return Reader(
        name=name,
        about=f"{title}: {sum(counts):,} of {classes} classes, {counts[0]:,} to {counts[-1]} each",
        source=f"cs.toronto.edu/~kriz/cifar.html ({layout.folder}); index lists: VITA-Group/SDCLR",
        read=long_tailed_cifar(name, layout, family),
        figures=figures,
    )


CIFAR_READERS = (
    _reader("cifar10_lt_sdclr", CIFAR10, "sdclr"),
    _reader("cifar100_lt_sdclr", CIFAR100, "sdclr"),
    _reader("cifar10_lt_isogclr", CIFAR10, "isogclr"),
    _reader("cifar100_lt_isogclr", CIFAR100, "isogclr"),
)
