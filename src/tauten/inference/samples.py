"""Data of any kind that training reads, as rows to embed."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from datasets import Dataset
from torch import Tensor

from tauten.data import emoji_lt, fingerprint, load_pairs
from tauten.files import expanded
from tauten.inference.model import Model
from tauten.structure.cells import missing, some, texts_of
from tauten.training.evaluation import on_other_data
from tauten.training.stores.named import is_named, named_split
from tauten.training.stores.pair_data import PairData, Split
from tauten.training.stores.rows import class_names, one_per_picture
from tauten.training.stores.splits import load_split


@dataclass(frozen=True)
class Samples:
    """Samples to embed: pictures, and the different captions that they have.

    Attributes:
        ids: a name for each picture, all different.
        files: where each picture is, "" where it is in a table or shard.
        captions: captions of each picture, perhaps none.
        labels: class of each picture, "" for none; None where there are no classes.
        encode: positions [start, stop) to embeddings by a model with batches of a size.
        fingerprint: hash of the content.
        texts: the different captions, in order of first appearance.
        images_of_text: for each of them the positions of its pictures.
    """

    ids: list[str]
    files: list[str]
    captions: list[list[str]]
    labels: list[str] | None
    encode: Callable[[Model, int, int, int], Tensor]
    fingerprint: str
    texts: list[str] = dataclasses.field(init=False)
    images_of_text: list[list[int]] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        """Collect the different captions."""
        of: dict[str, list[int]] = {}
        for row, texts in enumerate(self.captions):
            for text in dict.fromkeys(texts):
                of.setdefault(text, []).append(row)
        object.__setattr__(self, "texts", list(of))
        object.__setattr__(self, "images_of_text", list(of.values()))


def read_samples(
    model: Model,
    data: str | Path | Dataset | None,
    split: str | None = None,
    image: str | None = None,
    caption: str | None = None,
    label: str | None = None,
    progress: bool = True,
) -> Samples:
    """Read what is to be embedded.

    Args:
        model: a run reads its own data as in its training.
        data: all that ``tauten train`` reads, folders of pictures without captions, or a data set
            with the columns image and perhaps caption; None: the run's own data.
        split: train, val or test of the run's own data, of NAME:FOLDER, or of data with a column
            `split`; by default test of the run's own and of NAME:FOLDER, else everything.
        image: column of the pictures, see :func:`tauten.data.load_pairs`.
        caption: column of the captions.
        label: column of the classes; by default `label` where there is one.
        progress: show bars for large data.

    Raises:
        ValueError: nothing to embed, or a column or split that is not there.
    """
    if split is not None and split not in get_args(Split):
        raise ValueError(f"split is train, val or test, got {split!r}")
    if data is None:
        if model.data is None:
            raise ValueError(f"{model.name} is no run with data of its own: give data to embed")
        if image or caption or label:
            raise ValueError("image, caption and label are of other data: give data, too")
        views = model.towers.texts is None
        return _of_pairs(load_split(model.data, _split(split or "test"), progress, views))
    run_data = model.data
    if run_data is not None and (run_data.frames or model.towers.picture is None):
        if isinstance(data, Dataset):
            raise ValueError(f"{model.name} takes no pictures: give the data as a path")
        other = on_other_data(run_data, str(data), label, image, caption)
        return _of_pairs(load_split(other, "test", progress))
    names = (
        image or (run_data.image if run_data else "image"),
        caption or (run_data.caption if run_data else "caption"),
    )
    source = "the given data set" if isinstance(data, Dataset) else str(data)
    dataset = data if isinstance(data, Dataset) else _read(source, split, names, progress)
    if caption is not None and not any(map(len, dataset["caption"])):
        raise ValueError(f"no caption column {caption!r} in {source}; columns: {_columns(dataset)}")
    if label is not None and label not in dataset.column_names:
        raise ValueError(f"no label column {label!r} in {source}; columns: {_columns(dataset)}")
    if "caption" not in dataset.column_names:
        dataset = dataset.add_column("caption", [""] * len(dataset))
    of = label or ("label" if "label" in dataset.column_names else None)
    known = source == "emoji_lt" or is_named(source)
    return _of_dataset(dataset if known else one_per_picture(dataset, of, source), of, source)


def _split(name: str) -> Split:
    return next(split for split in get_args(Split) if split == name)


def _columns(dataset: Dataset) -> str:
    return some(dataset.column_names, 20)


def _read(source: str, split: str | None, names: tuple[str, str], progress: bool) -> Dataset:
    if source == "emoji_lt":
        return emoji_lt(_split(split or "test"))
    if is_named(source):
        return named_split(source, _split(split or "test"))
    dataset = load_pairs(
        source, image=names[0], caption=names[1], captions=False, bare=True, progress=progress
    )
    if split is None:
        return dataset
    held = {"val": ("val", "valid", "validation", "dev")}.get(split, (split,))
    if "split" not in dataset.column_names:
        raise ValueError(f"{source} has no column 'split': leave split out to embed all of it")
    rows = [i for i, name in enumerate(dataset["split"]) if str(name).lower() in held]
    if not rows:
        raise ValueError(
            f"{source} has no {split} samples: its split column holds "
            f"{some(sorted(set(map(str, dataset['split']))))}"
        )
    return dataset.select(rows)


def _of_pairs(pairs: PairData) -> Samples:
    """Return the samples of a split that training has read."""
    count = len(pairs)

    def encode(model: Model, start: int, stop: int, batch_size: int) -> Tensor:
        return model.encode_prepared(pairs.images[start:stop], batch_size)

    ids = [str(row) for row in range(count)]
    return Samples(ids, [""] * count, pairs.captions, pairs.labels, encode, pairs.fingerprint)


def _of_dataset(dataset: Dataset, label: str | None, source: str) -> Samples:
    cells = dataset.select_columns(["image"]).with_format("arrow")
    captions = [[text for text in texts_of(cell) if text.strip()] for cell in dataset["caption"]]
    classes = None
    if label is not None and not all(map(missing, dataset[label])):
        classes = class_names(dataset[label], label, source)
    files = _files(dataset)

    def encode(model: Model, start: int, stop: int, batch_size: int) -> Tensor:
        part = cells[start:stop]["image"].to_pylist()
        return model.encode_image(part, batch_size)

    return Samples(
        _ids(dataset, files, source), files, captions, classes, encode, fingerprint(dataset)
    )


def _files(dataset: Dataset) -> list[str]:
    """Return the file of each picture; "" for one that is not in a file of its own."""
    column = dataset.select_columns(["image"]).with_format("arrow")[:]["image"]
    paths = column.combine_chunks().field("path").to_pylist() if len(column) else []
    return [path if path and os.path.isabs(path) else "" for path in paths]  # noqa: PTH117


def _ids(dataset: Dataset, files: Sequence[str], source: str) -> list[str]:
    """Return a different name for each picture: its id, its file within the folder, or its row."""
    base = expanded(source).absolute()
    names: list[Any] = list(dataset["id"]) if "id" in dataset.column_names else [None] * len(files)
    seen: Counter[str] = Counter()
    chosen: dict[str, None] = {}
    for row, (name, file) in enumerate(zip(names, files, strict=True)):
        if missing(name) and file:
            name = os.path.relpath(file, base if base.is_dir() else base.parent)
        first = new = str(row) if missing(name) else str(name)
        while new in chosen:
            seen[first] += 1
            new = f"{first}#{seen[first] + 1}"
        chosen[new] = None
    return list(chosen)
