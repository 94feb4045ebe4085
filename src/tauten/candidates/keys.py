"""Keys of pairs: what each side meets in the place of the other side of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tauten.ids import check_index


@dataclass(frozen=True)
class Keys:
    """Pairs of keys: x is compared with those of y, and y with those of x.

    Row i of a batch has key i as its positive; all other keys are its candidates. Those with its
    ``index``, of y where sides have their own, are other keys of the same pair and left out.

    Attributes:
        x: (K, d) keys of x; the first N are those of the batch, in its order.
        y: (K, d) keys of y, in the same order.
        index: (K,) long, data set positions, or one vector for each side.
        same: id vectors (K,), e.g. ``(image_ids, caption_ids)``; keys that agree with an anchor's
            own in any of them are not used as negatives.
        labels: (K,) long; all keys with the label of an anchor are positive. None for one positive.

    Raises:
        ValueError: shapes that do not fit, or ids that are no integers.
    """

    x: Tensor
    y: Tensor
    index: Tensor | tuple[Tensor, Tensor]
    same: Sequence[Tensor] = ()
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = []
        for name, side in (("x", self.x), ("y", self.y)):
            if not isinstance(side, Tensor) or not side.is_floating_point() or side.dim() != 2:
                shape = tuple(side.shape) if isinstance(side, Tensor) else type(side).__name__
                raise ValueError(f"Keys.{name} must be (K, d) floating numbers, got {shape}")
            shapes.append(tuple(side.shape))
        if shapes[0] != shapes[1]:
            raise ValueError(f"Keys.x and Keys.y must have one shape (K, d), got {shapes}")
        if isinstance(self.same, Tensor):
            raise ValueError("Keys.same must be a list of id vectors (K,), got one tensor")
        for ids in self.columns():
            if len(check_index(ids)) != len(self):
                raise ValueError(
                    f"Keys need an id for each of {len(self)} keys in index, same and labels, "
                    f"got {len(ids)}"
                )

    def __len__(self) -> int:
        return len(self.x)

    def ids(self, anchors: Literal["x2y", "y2x"]) -> Tensor:
        """Return (K,) the positions of x (``"x2y"``) or of y."""
        if isinstance(self.index, Tensor):
            return self.index
        return self.index[0 if anchors == "x2y" else 1]

    def columns(self) -> list[Tensor]:
        """Return all id vectors: index, same and labels."""
        index = [self.index] if isinstance(self.index, Tensor) else list(self.index)
        return [*index, *self.same, *([] if self.labels is None else [self.labels])]

    def with_columns(self, x: Tensor, y: Tensor, columns: Sequence[Tensor]) -> Keys:
        """Return other keys with these id vectors, which stand as in :meth:`columns`."""
        sides = 1 if isinstance(self.index, Tensor) else 2
        index = columns[0] if sides == 1 else (columns[0], columns[1])
        same = tuple(columns[sides : sides + len(self.same)])
        return Keys(x, y, index, same, None if self.labels is None else columns[-1])

    def each(self, change: Any) -> Keys:
        """Return the keys with each tensor changed."""
        return self.with_columns(change(self.x), change(self.y), [*map(change, self.columns())])

    def detached(self) -> Keys:
        """Return the same without gradients."""
        return replace(self, x=self.x.detach(), y=self.y.detach())

    def relation(self, anchors: int) -> dict[str, Any]:
        """Return the relation of so many anchors, the first, to all keys."""
        keywords: dict[str, Any] = {
            "same": [(ids[:anchors], ids) for ids in (self.ids("y2x"), *self.same)]
        }
        if self.labels is not None:
            keywords["labels"] = (self.labels[:anchors], self.labels)
        return keywords

    @classmethod
    def joined(cls, parts: Sequence[Keys], anchors: Sequence[int]) -> Keys:
        """Return the keys of several processes: those of their batches first, then all others.

        Args:
            parts: of each process.
            anchors: how many keys of each are those of its batch.
        """
        pairs = list(zip(parts, anchors, strict=True))
        pieces = [part.each(lambda t, n=n: t[:n]) for part, n in pairs]
        pieces += [part.each(lambda t, n=n: t[n:]) for part, n in pairs]
        columns = zip(*(piece.columns() for piece in pieces), strict=True)
        x, y = (torch.cat([getattr(piece, side) for piece in pieces]) for side in ("x", "y"))
        return parts[0].with_columns(x, y, [torch.cat(column) for column in columns])
