"""Pictures, clips or features that a split holds in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from tauten.data.problems import Problem
from tauten.training.stores.clip_source import ClipSource
from tauten.training.stores.text_source import TextSource


class Media(Protocol):
    """The images of a split, in memory or in videos.

    Attributes:
        lazy: whether they are decoded when they are asked for, and may fail then.
        texts: those in the place of pictures, else none.
    """

    @property
    def lazy(self) -> bool:
        """True where they are decoded when they are asked for, and may fail then."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """Texts in the place of pictures, else none."""
        ...

    @property
    def unreadable(self) -> Mapping[int, Problem]:
        """Rows that could not be read when they were last asked for, and why."""
        ...

    def usable(self) -> int:
        """Return a row that can be read."""
        ...

    def ids(self) -> Tensor:
        """Return (N,) long, equal where two rows are the same."""
        ...

    def draw(
        self, rows: Tensor, when: tuple[int, int] | None = None
    ) -> tuple[Any, dict[int, Problem]]:
        """Return these rows for training, and by place what is wrong with those unread.

        Args:
            rows: (n,) long.
            when: seed and epoch, from which what is random follows; None for torch's generator.
        """
        ...


@dataclass
class Held:
    """Images of a split in memory.

    Attributes:
        pixels: (N, 3, H, W) or clips (N, T, 3, H, W) uint8, or features (N, d) float32.
    """

    pixels: Tensor
    lazy = False
    texts: ClassVar[Sequence[str]] = ()

    @property
    def unreadable(self) -> Mapping[int, Problem]:
        """No rows."""
        return {}

    def usable(self) -> int:
        """Return the first row."""
        return 0

    def ids(self) -> Tensor:
        """Return (N,) long, equal for equal pixels."""
        seen: dict[bytes, int] = {}
        ids = [
            seen.setdefault(hashlib.sha256(image.numpy().tobytes()).digest(), len(seen))
            for image in self.pixels
        ]
        return torch.tensor(ids)

    def draw(
        self, rows: Tensor, when: tuple[int, int] | None = None
    ) -> tuple[Tensor, dict[int, Problem]]:
        """Return these rows; nothing is drawn."""
        return self.pixels[rows], {}


def media(images: Tensor | ClipSource | TextSource) -> Held | ClipSource | TextSource:
    """Return the images of a split by their interface, :class:`Media`."""
    return Held(images) if isinstance(images, Tensor) else images
