"""Texts in the place of pictures, where both sides of a pair are texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.data.problems import Problem


class TextSource:
    """First texts of pairs, one for each sample.

    It stands where a tensor of pictures does: ``len``, ``shape``, ``dim()``, and ``source[rows]``
    for a slice or positions, which returns a list.

    Args:
        texts: one for each sample.
    """

    lazy = False

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.shape = torch.Size((len(self.texts),))

    def __len__(self) -> int:
        return len(self.texts)

    def dim(self) -> int:
        """Return 1: texts."""
        return 1

    def __getitem__(self, rows: slice | Tensor) -> Any:
        """Return these texts, a list."""
        if isinstance(rows, slice):
            return self.texts[rows]
        return [self.texts[row] for row in rows.tolist()]

    @property
    def unreadable(self) -> Mapping[int, Problem]:
        """No texts."""
        return {}

    def draw(
        self, rows: Tensor, when: tuple[int, int] | None = None
    ) -> tuple[list[str], dict[int, Problem]]:
        """Return these texts; nothing is drawn."""
        return self[rows], {}

    def usable(self) -> int:
        """Return the position of a text that can be used; all can."""
        return 0

    def ids(self) -> Tensor:
        """Return (N,) long, equal for equal texts."""
        seen: dict[str, int] = {}
        return torch.tensor([seen.setdefault(text, len(seen)) for text in self.texts])
