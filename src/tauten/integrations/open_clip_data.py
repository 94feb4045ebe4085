"""Positions of the samples that open_clip's loaders read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

Sample = Mapping[str, Any]


class Batches:
    """Positions of the latest batches, which open_clip's training loop has no place for.

    Args:
        number: how many batches one step of the optimiser takes.
    """

    def __init__(self, number: int = 1) -> None:
        self.number = number
        #: batches handed out in this epoch
        self.count = 0
        self._latest: deque[Tensor] = deque()

    def note(self, positions: Any) -> None:
        """Keep the positions of the batch that is handed out now."""
        self.count += 1
        self._latest.append(torch.as_tensor(positions, dtype=torch.int64))
        while len(self._latest) > self.number:
            self._latest.popleft()

    def positions(self, rows: int) -> Tensor:
        """Return (rows,) positions of the latest batches, one after the other.

        Raises:
            ValueError: as many positions were not noted.
        """
        noted = torch.cat([*self._latest]) if self._latest else torch.empty(0, dtype=torch.int64)
        if len(noted) != rows:
            raise ValueError(f"a batch of {rows} pairs came with {len(noted)} positions")
        return noted


class Loader:
    """A loader that hands on images and texts, and notes their positions.

    Args:
        loader: loader of triples.
        batches: where positions are noted.
    """

    def __init__(self, loader: Any, batches: Batches) -> None:
        self.loader = loader
        self.batches = batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, texts, positions in self.loader:
            self.batches.note(positions)
            yield images, texts

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)


def position(sample: Sample) -> int:
    """Return the position of a sample of a shard in the training set.

    It is the number in the member ``index``; or, in the member ``json``, the whole number under
    ``index`` or ``key``; or the key of the sample, if that is a number.

    Raises:
        ValueError: none of these.
    """
    record = sample.get("json")
    record = record if isinstance(record, Mapping) else {}
    candidates = [sample.get("index"), record.get("index"), record.get("key")]
    for value in candidates:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    for value in (record.get("key"), str(sample["__key__"]).rpartition("/")[2]):
        if isinstance(value, str) and value.isdecimal():
            return int(value)
    raise ValueError(
        f"sample {sample['__key__']!r} of {sample.get('__url__', 'a shard')} has no position in "
        "the training set: give it a member KEY.index with a whole number, or a json with one "
        "under 'index'"
    )


class Triples:
    """A stage of a WebDataset pipeline: images, texts and positions.

    Args:
        names: members of a sample that come before the position.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, samples: Iterable[Sample]) -> Iterator[tuple[Any, ...]]:
        for sample in samples:
            yield (*(sample[name] for name in self.names), position(sample))


class Shards:
    """The names of webdataset, of which ``to_tuple`` adds the position.

    Args:
        webdataset: the module.
    """

    def __init__(self, webdataset: Any) -> None:
        self._webdataset = webdataset

    def to_tuple(self, *names: str) -> Triples:
        """Return the stage that makes tuples."""
        return Triples(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_webdataset"], name)


class Numbered:
    """Rows of open_clip's table with their positions.

    Args:
        table: the data set's class.
        arguments: arguments of the data set.
        options: options of the data set.
    """

    def __init__(self, table: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        self.rows = table(*arguments, **options)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[Any, ...]:
        return (*self.rows[row], row)


def with_positions(module: Any, kind: str, batches: Batches) -> Callable[..., Any]:
    """Return open_clip's function that opens a training set, with the positions of its samples.

    Args:
        module: ``open_clip_train.data``.
        kind: "wds" for shards, "csv" for a table.
        batches: where positions are noted.
    """
    opened = getattr(module, f"get_{kind}_dataset")
    name = "wds" if kind == "wds" else "CsvDataset"
    changed = Shards(module.wds) if kind == "wds" else partial(Numbered, module.CsvDataset)

    def get(args: Any, preprocess: Any, is_train: bool, **options: Any) -> Any:
        if not is_train:
            return opened(args, preprocess, is_train, **options)
        before = getattr(module, name)
        setattr(module, name, changed)
        try:
            info = opened(args, preprocess, is_train, **options)
        finally:
            setattr(module, name, before)
        info.dataloader = Loader(info.dataloader, batches)
        return info

    return get
