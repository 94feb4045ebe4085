"""Arguments of the loss for one batch of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tauten.candidates import Keys, Mixer, OwnNegatives
from tauten.relations import Teacher


@dataclass(frozen=True)
class EmbeddedBatch:
    """Arguments of the loss for one batch, detached.

    Attributes:
        x: (N, d) image embeddings.
        y: (N, d) text embeddings.
        index: (N,) long, data set positions.
        same: id vectors (N,) of pairs that are no negatives of each other.
        graded: nothing, or of each pair row and column in the table of relevancies, and relevancy.
        caption: nothing, or (N,) long, ids of the captions where these have their own.
        keys: what both sides meet in place of each other, the keys of the batch first; None where
            that is the batch itself.
        teacher: share of the targets that the keys make, and the temperature of their softmax.
        mixed: options of a :class:`~tauten.candidates.Mixer` of the keys.
        negatives: hard negatives that each pair's x alone meets.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    same: tuple[Tensor, ...]
    graded: tuple[Tensor, ...] = ()
    caption: tuple[Tensor, ...] = ()
    keys: Keys | None = None
    teacher: tuple[float, float] | None = None
    mixed: tuple[int, int, int] | None = None
    negatives: OwnNegatives | None = None

    @property
    def relation(self) -> dict[str, Any]:
        """The keywords of the loss that say who is no negative, and who is partly positive."""
        negatives = {} if self.negatives is None else {"negatives": self.negatives}
        if self.keys is None:
            return {"same": self.same} | negatives
        relation: dict[str, Any] = {"keys": self.keys} | negatives
        if self.teacher is not None:
            share, tau = self.teacher
            relation["targets"] = Teacher(self.keys.x, self.keys.y, tau, share=share)
        if self.mixed is not None:
            # the same mixtures each time that this batch is asked
            drawn = torch.Generator(self.x.device).manual_seed(int(self.index.sum()))
            relation["negatives"] = Mixer(*self.mixed)(self.x, self.y, self.keys, drawn)
        return relation

    @property
    def ids(self) -> Tensor | tuple[Tensor, Tensor]:
        """The data set positions of both sides."""
        return (self.index, self.caption[0]) if self.caption else self.index

    @classmethod
    def joined(cls, parts: Sequence[EmbeddedBatch]) -> EmbeddedBatch:
        """Return the pairs of all parts, one after the other."""
        rows = ((p.x, p.y, p.index, *p.caption, *p.graded, *p.same) for p in parts)
        x, y, index, *others = (torch.cat(column) for column in zip(*rows, strict=True))
        captions, graded = len(parts[0].caption), len(parts[0].caption) + len(parts[0].graded)
        keys = [part.keys for part in parts if part.keys is not None]
        sizes = [len(part.x) for part in parts]
        return cls(
            *(x, y, index),
            same=tuple(others[graded:]),
            graded=tuple(others[captions:graded]),
            caption=tuple(others[:captions]),
            keys=Keys.joined(keys, sizes) if keys else None,
            teacher=parts[0].teacher,
            mixed=parts[0].mixed,
            negatives=OwnNegatives.joined([part.negatives for part in parts], sizes),
        )

    def first(self, count: int) -> EmbeddedBatch:
        """Return the first pairs, ``count`` at most."""
        return self._each(lambda column: column[:count])

    def to(self, device: torch.device | str) -> EmbeddedBatch:
        """Move the batch to a device."""
        moved = self._each(lambda column: column.to(device))
        if self.keys is None:
            return moved
        return replace(moved, keys=self.keys.each(lambda column: column.to(device)))

    def _each(self, change: Callable[[Tensor], Tensor]) -> EmbeddedBatch:
        columns = (self.same, self.graded, self.caption)
        same, graded, caption = (tuple(map(change, each)) for each in columns)
        x, y, index = (change(each) for each in (self.x, self.y, self.index))
        negatives = None if self.negatives is None else self.negatives.each(change)
        beside = (self.keys, self.teacher, self.mixed, negatives)
        return EmbeddedBatch(x, y, index, same, graded, caption, *beside)
