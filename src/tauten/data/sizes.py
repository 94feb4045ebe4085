"""Sizes that pictures are brought to, and how: squashed, or the middle cut out.

A size is None, as it is; an int, the middle square of so many pixels; (height, width), squashed to
exactly that; or :class:`Prepared`.
"""

from __future__ import annotations

from typing import Literal

from PIL import Image

Crop = Literal["down", "even"]


class Prepared(tuple[int, int]):
    """(side, side), and how a pretrained model's pictures came to it.

    Args:
        side: pixels of the square.
        edge: the shorter side is scaled to this many pixels and the middle square cut out; None:
            the whole picture is squashed to the square.
        resample: the filter's name, as Pillow has it.
        crop: which pixel the square begins at where what is cut off is odd: "down", half of it
            rounded down, as in transformers; "even", to the even number, as in torchvision.

    Raises:
        ValueError: the square is larger than the scaled picture.
    """

    edge: int | None
    resample: str
    crop: Crop = "down"

    def __new__(
        cls, side: int, edge: int | None = None, resample: str = "bicubic", crop: Crop = "down"
    ) -> Prepared:
        if edge is not None and edge < side:
            raise ValueError(
                f"no square of {side} pixels (data.image_size) can be cut from a side of {edge} "
                "(data.edge): give a larger edge, a smaller square, or an edge of 0"
            )
        new = super().__new__(cls, (side, side))
        new.edge, new.resample = edge, resample
        if crop != cls.crop:
            new.crop = crop
        return new

    def __getnewargs__(self) -> tuple[int, int | None, str, Crop]:
        return self[0], self.edge, self.resample, self.crop

    def of(self, picture: Image.Image) -> Image.Image:
        """Return a picture as the model saw it."""
        how = Image.Resampling[self.resample.upper()]
        if self.edge is None:
            return picture.resize(self, how)
        short, long = sorted(picture.size)
        scaled = [self.edge, int(self.edge * long / short)]
        width, height = scaled if picture.width <= picture.height else scaled[::-1]
        rest = (width - self[0], height - self[0])
        left, top = (r // 2 if self.crop == "down" else round(r / 2) for r in rest)
        whole = picture.resize((width, height), how)
        return whole.crop((left, top, left + self[0], top + self[0]))


def check_size(size: int | tuple[int, int] | None) -> None:
    """Refuse a size below 1 pixel."""
    if size is not None and min((size,) if isinstance(size, int) else size) < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")


def is_size(shape: tuple[int, ...], size: int | tuple[int, int] | None) -> bool:
    """Return whether pixels of this height and width stay as they are."""
    if isinstance(size, Prepared):
        return size.edge is None and shape == size
    return size is None or shape == ((size, size) if isinstance(size, int) else tuple(size))


def needed(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return the least width and height from which a picture of this size is made."""
    if isinstance(size, Prepared) and size.edge is not None:
        return size.edge, size.edge
    side = size if isinstance(size, int) else max(size)  # it may lie on its side
    return side, side


def resized(picture: Image.Image, size: int | tuple[int, int] | None) -> Image.Image:
    """Crop the middle square to this many pixels a side, or scale to (height, width)."""
    if size is None:
        return picture
    if isinstance(size, Prepared):
        return size.of(picture)
    width, height = picture.size
    if isinstance(size, tuple):
        target = (size[1], size[0])
        return (
            picture if target == picture.size else picture.resize(target, Image.Resampling.BICUBIC)
        )
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    if (width, height) == (size, size):
        return picture
    return picture.resize(
        (size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
