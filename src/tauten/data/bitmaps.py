"""Bitmaps (BMP) of RGB pixels without compression: fast both ways, and the same bytes whatever the
compression library."""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_HEADER = struct.Struct("<2sIIIIiiHHIIiiII")
_DOTS_PER_METRE = 3780


def to_bitmaps(pixels: Pixels) -> list[bytes]:
    """Return each picture as the file that Pillow writes of it.

    Args:
        pixels: (N, H, W, 3).
    """
    count, height, width, _ = pixels.shape
    rows = np.zeros((count, height, _row_bytes(width)), dtype=np.uint8)
    rows[..., : 3 * width] = pixels[:, ::-1, :, ::-1].reshape(count, height, 3 * width)
    header = _header(width, height)
    return [header + picture.tobytes() for picture in rows]


def from_bitmap(content: bytes) -> Pixels | None:
    """Return the pixels (H, W, 3) of a file of :func:`to_bitmaps`; None for any other."""
    if len(content) < _HEADER.size or content[:2] != b"BM":
        return None
    width, height = _HEADER.unpack_from(content)[5:7]
    if width < 1 or height < 1 or content[: _HEADER.size] != _header(width, height):
        return None
    if len(content) != _HEADER.size + height * _row_bytes(width):
        return None
    rows = np.frombuffer(content, dtype=np.uint8, offset=_HEADER.size).reshape(height, -1)
    return rows[::-1, : 3 * width].reshape(height, width, 3)[..., ::-1]


@lru_cache(maxsize=64)
def _header(width: int, height: int) -> bytes:
    size = height * _row_bytes(width)
    file = (b"BM", _HEADER.size + size, 0, _HEADER.size)
    # 40 bytes from here on, one plane, 24 bits a pixel, not compressed
    dots = (_DOTS_PER_METRE, _DOTS_PER_METRE)
    return _HEADER.pack(*file, 40, width, height, 1, 24, 0, size, *dots, 0, 0)


def _row_bytes(width: int) -> int:
    """Return the bytes of a row, a multiple of 4."""
    return -(-3 * width // 4) * 4
