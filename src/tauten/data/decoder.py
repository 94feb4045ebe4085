"""Decoder of pictures to one size, which keeps what it has decoded to check them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tauten.data.bitmaps import Pixels
from tauten.data.pixels import pixels_of, unreadable
from tauten.data.sizes import check_size

#: bytes of pixels that are kept from the check of pictures until they are used
KEPT = 2**30


class Decoder:
    """Pixels of pictures at one size, of those that were checked without decoding them again.

    Safe in several threads.

    Args:
        size: as of :func:`tauten.data.images`.
        draft: as there.
        most: bytes of pixels that are kept; once they are more, pictures are only checked, and
            decoded again when their pixels are asked for.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self, size: int | tuple[int, int] | None, draft: bool = False, most: int = KEPT
    ) -> None:
        check_size(size)
        self.size = size
        self.draft = draft
        self._room = most
        self._kept: dict[Any, Pixels] = {}

    def check(self, stored: dict[str, Any]) -> str | None:
        """Say what is wrong with a picture stored as {"bytes", "path"}, if anything."""
        if self._room <= 0:
            return unreadable(stored)
        key = _key(stored)
        if key in self._kept:
            return None
        try:
            pixels = np.ascontiguousarray(pixels_of(stored, self.size, self.draft))
        except Exception:  # decoders raise errors of any kind
            return unreadable(stored)
        self._kept[key] = pixels
        self._room -= pixels.nbytes
        return None

    def pixels(self, stored: dict[str, Any]) -> Pixels:
        """Return the pixels (H, W, 3) of a picture.

        Raises:
            Exception: of any kind, where it cannot be decoded.
        """
        pixels = self._kept.get(_key(stored)) if self._kept else None
        return pixels_of(stored, self.size, self.draft) if pixels is None else pixels


def _key(stored: dict[str, Any]) -> Any:
    content = stored.get("bytes")
    return stored.get("path") if content is None else hashlib.sha256(content).digest()
