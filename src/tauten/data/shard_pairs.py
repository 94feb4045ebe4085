"""Pairs in shards by id: read, decoded, collated, nothing else held in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from tauten.data.caption_cells import take_caption
from tauten.data.catalogue import Catalogue
from tauten.data.pixels import decoded_or_problem, unreadable
from tauten.data.problems import Problem, UnusableSampleError
from tauten.data.shard_files import ShardFiles
from tauten.data.sources import Media, Request

_ALWAYS = ("index", "image", "caption")


class ShardPairs(Dataset[dict[str, Any]]):
    """The pairs of a catalogue by id: a data set for torch whose content stays on disk.

    A sample of a tar is one read at its offset. A row of a parquet file needs its row group; the
    latest ones are kept, up to `held` rows. Samples are those of :func:`load_pairs`, under the same
    names and with the same pixels. Safe to hand to worker processes.

    Args:
        catalogue: from :func:`index_shards`.
        image: column of the pictures in a parquet file; in a tar, another extension than those of
            pictures ("npy", "left.jpg").
        caption: column of the captions; in a tar .txt counts as "caption" where the json has none.
        media: "image", or "raw" for a first modality that is no picture: taken as found.
        image_size: of pictures: an int scales the shorter side to it and cuts the centre square,
            (height, width) scales to exactly that; None gives the file's bytes, after they were
            decoded once.
        columns: the other columns to read; None for all.
        held: most rows of parquet files in memory.
        draft: decode JPEGs to about the size, see :func:`tauten.data.pixels.decoded`.

    Raises:
        ValueError: a size or a number of rows below 1; `columns` with index, image or caption.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        image: str = "image",
        caption: str = "caption",
        media: Media = "image",
        image_size: int | tuple[int, int] | None = None,
        columns: Sequence[str] | None = None,
        held: int = 8192,
        draft: bool = False,
    ) -> None:
        sides = (image_size,) if isinstance(image_size, int) else image_size
        if sides is not None and min(sides) < 1:
            raise ValueError(f"image_size must be at least 1 pixel, got {image_size}")
        if held < 1:
            raise ValueError(f"held must be at least 1 row, got {held}")
        taken = [name for name in columns or () if name in _ALWAYS]
        if taken:
            raise ValueError(f"{taken[0]!r} is always there: columns= names the others")
        self.catalogue = catalogue
        self.image_size = image_size
        self.draft = draft
        self.held = held
        self._request = Request(image, caption, media)
        self._columns = None if columns is None else tuple(columns)
        self._required = (image, caption)
        self._files = ShardFiles(self._request, self._required, self._columns, held)

    def __len__(self) -> int:
        return len(self.catalogue)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one sample.

        Returns:
            `index`, `image` ((3, H, W) uint8, bytes, or as found), `caption` (a text, or a list of
            texts), and the other columns.

        Raises:
            IndexError: no such sample.
            UnusableSampleError: the sample cannot be used; the message says where it is and why.
            ValueError: the shard has changed since it was indexed.
        """
        row = self.row(index)
        if isinstance(row, Problem):
            raise UnusableSampleError(str(row))
        return row

    def row(self, index: int) -> dict[str, Any] | Problem:
        """Return the sample as ``pairs[index]`` gives it, or why it cannot be used."""
        sample = self._files.sample(*self.catalogue.locate(index))
        take_caption(sample, self._request.caption)
        if sample.problem is None and self.pictures:
            sample.media, sample.problem = _picture(sample.media, self.image_size, self.draft)
        elif sample.problem is None and sample.media is None:
            sample.problem = "no value"
        if sample.problem is not None:
            return Problem(sample.where, sample.problem)
        row = {"index": index, "image": sample.media, "caption": sample.fields.pop("caption")}
        names = sample.fields if self._columns is None else self._columns
        return row | {name: sample.fields.get(name) for name in names}

    def batch(self, ids: Sequence[int]) -> tuple[dict[str, Any], list[Problem]]:
        """Return the usable ones of these samples, and what is wrong with the others.

        Returns:
            `index` (n,) int64, `image` (n, 3, H, W) uint8 or a list, `caption` and the other
            columns as lists, None where a sample lacks the column; and the problems. n may be 0.
        """
        rows = [self.row(index) for index in ids]
        samples = [row for row in rows if not isinstance(row, Problem)]
        problems = [row for row in rows if isinstance(row, Problem)]
        names = dict.fromkeys([*_ALWAYS, *(n for s in samples for n in s)])
        batch: dict[str, Any] = {name: [s.get(name) for s in samples] for name in names}
        batch["index"] = torch.tensor(batch["index"], dtype=torch.int64)
        if self.image_size is not None and self.pictures:
            size = self.image_size
            height, width = (size, size) if isinstance(size, int) else size
            empty = torch.empty(0, 3, height, width, dtype=torch.uint8)
            batch["image"] = torch.stack(batch["image"]) if samples else empty
        return batch, problems

    @property
    def pictures(self) -> bool:
        """True where the first side is pictures."""
        return self._request.media == "image"

    def sized(self, image_size: int | tuple[int, int] | None) -> ShardPairs:
        """Return the same pairs, with pictures of another size."""
        other = self.holding(self.held)
        other.image_size = image_size
        return other

    def holding(self, held: int) -> ShardPairs:
        """Return the same pairs, with another number of parquet rows in memory."""
        other = copy.copy(self)
        other.held = held
        other._files = ShardFiles(self._request, self._required, self._columns, held)
        return other

    def column(self, name: str, missing: Any = None, progress: bool = True) -> list[Any]:
        """Return one column of all samples, in the order of ids: classes to count,
        captions to cluster.

        Reads the whole of the tars once, and the one column of parquet files. Pictures are not
        decoded, so samples whose picture is damaged are there too.

        Args:
            name: a column, or "caption".
            missing: stands where a sample lacks it.
            progress: show a bar if it takes long.

        Raises:
            ValueError: no sample has it.
        """
        wanted = self._request.caption if name == "caption" else name
        files = ShardFiles(self._request, (wanted,), (), self.held)
        cells: list[Any] = []
        bar = tqdm(desc=name, total=len(self), unit=" samples", delay=2.0, disable=not progress)
        with bar:
            for shard in self.catalogue.shards:
                for position in range(len(shard)):
                    sample = files.sample(shard, position)
                    take_caption(sample, self._request.caption)
                    value = sample.fields.get(name)
                    cells.append(None if name == "caption" and not value else value)
                    bar.update()
        if all(value is None for value in cells):
            raise ValueError(f"none of the {len(self)} samples has a column {name!r}")
        return [missing if value is None else value for value in cells]


def _picture(
    stored: dict[str, Any], size: int | tuple[int, int] | None, draft: bool
) -> tuple[Tensor | bytes | None, str | None]:
    """Return a stored picture as pixels, or its bytes without a size, or what is wrong with it."""
    if size is None:
        problem = unreadable(stored)
        content = stored["bytes"]
        if content is None and problem is None:
            content = Path(stored["path"]).read_bytes()
        return content, problem
    pixels, problem = decoded_or_problem(stored, size, draft)
    if pixels is None:
        return None, problem
    return torch.from_numpy(np.moveaxis(pixels, 2, 0).copy()), None
