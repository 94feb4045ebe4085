"""Pictures to tensors, and whether a picture can be read at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from datasets import Image as ImageFeature
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from tauten.data.bitmaps import Pixels, from_bitmap
from tauten.data.orientation import upright
from tauten.data.sizes import check_size, is_size, needed, resized

_BAR_FROM = 5000
_CHUNK = 256
_PROBE = (32, 32)
_NO_RANGE = ("I", "F")
_DECODER = ImageFeature()


def images(
    dataset: Dataset,
    size: int | tuple[int, int] | None = None,
    *,
    progress: bool = True,
    draft: bool = False,
) -> Tensor:
    """Decode all pictures of a data set once.

    Args:
        dataset: with a column `image` of pictures. Pictures with transparency are put on white.
        size: None keeps the size, which must then be the same for all. An int scales the shorter
            side to it and cuts the centre square; (height, width) scales to exactly that, whatever
            the aspect.
        progress: show a bar for large sets.
        draft: decode JPEGs to about the size, see :func:`decoded`.

    Returns:
        (N, 3, H, W) uint8, in [0, 255].

    Raises:
        ValueError: no rows, no column `image`, a size below 1, pictures of several sizes with
            size=None, a picture that cannot be read.
    """
    check_size(size)
    return stacked(dataset, lambda cell: pixels_of(cell, size, draft), progress)


def stacked(
    dataset: Dataset, decode: Callable[[dict[str, Any]], Pixels], progress: bool = True
) -> Tensor:
    """Return the pixels of all pictures of a data set, (N, 3, H, W) uint8.

    Args:
        dataset: with a column `image` of pictures.
        decode: gives the pixels (H, W, 3) of a picture stored as {"bytes", "path"}.
        progress: show a bar for large sets.

    Raises:
        ValueError: no rows, no column `image`, pictures of several sizes, a picture that cannot be
            read.
    """
    if "image" not in dataset.column_names:
        raise ValueError(f"no column 'image'; columns: {', '.join(dataset.column_names)}")
    if len(dataset) == 0:
        raise ValueError("the data set has no rows")
    result: Pixels | None = None
    hidden = not progress or len(dataset) < _BAR_FROM
    cells = tqdm(_stored(dataset), desc="images", total=len(dataset), disable=hidden)
    for row, cell in enumerate(cells):
        try:
            pixels = decode(cell)
        except Exception as error:  # decoders raise errors of any kind
            raise ValueError(f"row {row}: unreadable image: {error}") from error
        if result is None:
            result = np.empty((len(dataset), 3, *pixels.shape[:2]), dtype=np.uint8)
        if pixels.shape[:2] != result.shape[2:]:
            raise ValueError(
                f"row {row} is {_size(pixels.shape[:2])} pixels, "
                f"row 0 is {_size(result.shape[2:])}: give a size"
            )
        result[row] = pixels.transpose(2, 0, 1)
    assert result is not None
    return torch.from_numpy(result)


def _stored(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Yield the cells of the column `image`, as {"bytes", "path"}."""
    cells = dataset.select_columns(["image"]).cast_column("image", ImageFeature(decode=False))
    plain = cells.with_format("arrow")
    for start in range(0, len(dataset), _CHUNK):
        yield from plain[start : start + _CHUNK]["image"].to_pylist()


def pixels_of(
    stored: dict[str, Any], size: int | tuple[int, int] | None, draft: bool = False
) -> Pixels:
    """Return a picture stored as {"bytes", "path"} as pixels (H, W, 3), of this size.

    Raises:
        Exception: of any kind, where it cannot be decoded.
    """
    bitmap = from_bitmap(stored["bytes"]) if stored.get("bytes") is not None else None
    if bitmap is None:
        picture = to_rgb(decoded(stored, size if draft else None))
    elif is_size(bitmap.shape[:2], size):
        return bitmap
    else:
        picture = Image.fromarray(bitmap)
    return np.asarray(resized(picture, size))


def decoded(stored: dict[str, Any], size: int | tuple[int, int] | None = None) -> Image.Image:
    """Return a picture stored as {"bytes", "path"}, upright.

    Args:
        stored: one of both is None.
        size: as of :func:`images`: a JPEG that is at least twice as large is decoded to a half, a
            quarter or an eighth of its sides, no smaller than needed, which is faster and changes
            pixels a little; None for all of its pixels.
    """
    if size is None:
        picture: Image.Image = _DECODER.decode_example(stored)
        return picture
    data = stored.get("bytes")
    with Image.open(io.BytesIO(data) if data is not None else stored["path"]) as picture:
        picture.draft(None, needed(size))
        picture.load()
        return upright(picture)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert to RGB: transparency on white, 16-bit grey scaled to 8 bits.

    Raises:
        ValueError: pixels without a known range (32-bit integers or floats).
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.float64) / 257
        return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")
    if picture.mode in _NO_RANGE:
        raise ValueError(_no_range(picture.mode))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("RGB")


def _no_range(mode: str) -> str:
    return f"a picture of mode {mode!r} has no known range of values: store it with 8 or 16 bits"


def unreadable(stored: dict[str, Any]) -> str | None:
    """Decode a picture stored as {"bytes", "path"} and say what is wrong with it, if anything."""
    data, path = stored.get("bytes"), stored.get("path")
    try:
        with Image.open(io.BytesIO(data) if data is not None else path or "") as picture:
            picture.draft("RGB", _PROBE)  # JPEG: all data are read, few pixels are made
            picture.load()
            if picture.mode in _NO_RANGE:
                return f"unreadable image: {_no_range(picture.mode)}"
    except FileNotFoundError:
        return f"unreadable image: no such file: {path}"
    except UnidentifiedImageError:
        return "unreadable image: no known image format"
    except Exception as error:  # decoders raise errors of any kind
        return f"unreadable image: {error}"
    return None


def decoded_or_problem(
    stored: dict[str, Any], size: int | tuple[int, int] | None, draft: bool = False
) -> tuple[Pixels | None, str | None]:
    """Return the pixels of :func:`pixels_of`, or None and what is wrong with the picture."""
    try:
        return pixels_of(stored, size, draft), None
    except Exception as error:  # decoders raise errors of any kind
        return None, unreadable(stored) or f"unreadable image: {error}"


def _size(shape: Any) -> str:
    height, width = shape
    return f"{width}x{height}"
