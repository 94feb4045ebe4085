"""Orientation: pictures turned and mirrored as a viewer shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps


def upright(picture: Image.Image) -> Image.Image:
    """Return a photo as its EXIF orientation says."""
    return ImageOps.exif_transpose(picture)


def display_matrix(frame: Any) -> tuple[int, ...]:
    """Return a, b, c, d of a decoded frame's display matrix; 1, 0, 0, 1 where it has none."""
    for data in frame.side_data:
        if "DISPLAYMATRIX" in str(data.type):
            a, b, _, c, d = np.frombuffer(bytes(data), dtype=np.int32)[:5].tolist()
            return a, b, c, d
    return 1, 0, 0, 1


def shown(picture: Image.Image, matrix: Sequence[int]) -> Image.Image:
    """Turn and mirror a frame by quarter turns.

    Args:
        picture: as stored.
        matrix: a, b, c, d: what is stored at (x, y) is shown at (a·x + c·y, b·x + d·y). Other
            angles are taken to the nearest quarter turn.
    """
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture = picture.transpose(Image.Transpose.TRANSPOSE)
        to_left, to_top = c < 0, b < 0
    else:
        to_left, to_top = a < 0, d < 0
    if to_left:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if to_top else picture
