"""Pictures of further modalities of each sample, of which some may be missing."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from tauten.data.bitmaps import Pixels
from tauten.data.pixels import decoded_or_problem
from tauten.data.sources import stored_picture
from tauten.structure.cells import counted, missing

logger = logging.getLogger("tauten.training")


@dataclass(frozen=True)
class OtherMedia:
    """Pictures of a further modality.

    Attributes:
        pixels: (N, 3, H, W) uint8, zeros where there is none.
        present: (N,) bool.
    """

    pixels: Tensor
    present: Tensor

    def at(self, rows: Tensor) -> OtherMedia:
        """Return the pictures of these samples."""
        return OtherMedia(self.pixels[rows], self.present[rows])

    def ids(self) -> Tensor:
        """Return (N,) long, equal for equal pixels, one of its own for each sample without any."""
        seen: dict[Any, int] = {}
        keys = [
            hashlib.sha256(picture.numpy().tobytes()).digest() if there else row
            for row, (picture, there) in enumerate(
                zip(self.pixels, self.present.tolist(), strict=True)
            )
        ]
        return torch.tensor([seen.setdefault(key, len(seen)) for key in keys])

    def content(self) -> str:
        """Return a hash of all pixels."""
        digest = hashlib.sha256(self.present.numpy().tobytes())
        for picture in self.pixels:
            digest.update(picture.numpy().tobytes())
        return digest.hexdigest()[:32]


def other_media(
    dataset: Dataset,
    column: str,
    size: int | tuple[int, int],
    place: str,
    where: str | None = None,
    *,
    strict: bool = False,
    draft: bool = False,
) -> OtherMedia:
    """Decode a column of pictures, whose empty cells are samples without this modality.

    A picture that cannot be read counts as none; the log says how many there are of both.

    Args:
        dataset: of all samples.
        column: of paths relative to the table or its folder `images`, bytes, or {"bytes", "path"}.
        size: that pictures are brought to.
        place: of the table, to find files.
        where: place and split, for messages.
        strict: raise at the first picture that cannot be read.
        draft: decode JPEGs to about the size.

    Raises:
        ValueError: no picture in the column, or with `strict` one that cannot be read.
    """
    where = where or place
    base = Path(place) if Path(place).is_dir() else Path(place).parent
    cells = dataset.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    pictures: list[Pixels | None] = []
    problems: list[str] = []
    for row, cell in enumerate(cells):
        if missing(cell):
            pictures.append(None)
            continue
        stored, problem = stored_picture(cell, base)
        picture = None
        if problem is None:
            picture, problem = decoded_or_problem(stored, size, draft)
        if problem is not None:
            if strict:
                raise ValueError(f"{where}: column {column!r}, sample {row}: {problem}")
            problems.append(f"sample {row}: {problem}")
        pictures.append(picture)
    shown = next((picture for picture in pictures if picture is not None), None)
    if shown is None:
        first = f"; first: {problems[0]}" if problems else ""
        raise ValueError(
            f"no picture in the column {column!r} of data.others in {where}, of "
            f"{counted(len(cells), 'sample')}{first}; each split needs one: correct the column, "
            "leave it out of data.others, or give data.val and data.test that have such pictures"
        )
    pixels = torch.zeros(len(pictures), 3, *shown.shape[:2], dtype=torch.uint8)
    for row, picture in enumerate(pictures):
        if picture is not None:
            pixels[row] = torch.from_numpy(picture.copy()).permute(2, 0, 1)
    present = torch.tensor([picture is not None for picture in pictures])
    logger.info("%s: %d of %d samples have %r", where, int(present.sum()), len(present), column)
    if problems:
        logger.warning(
            "%s: %s of the column %r cannot be read, taken as missing; first: %s",
            where,
            counted(len(problems), "picture"),
            column,
            problems[0],
        )
    return OtherMedia(pixels, present)
