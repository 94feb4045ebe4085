"""Inputs of the loss of image and caption, of the samples that have both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PairInputs:
    """A batch of pairs before it is embedded.

    Attributes:
        images: (N, 3, H, W), or clips.
        texts: of the tokenizer.
        index: (N,) long, data set positions.
        same: ids of images and of captions, where a loss can read them without a wait.
        graded: see :class:`tauten.training.tasks.module.EmbeddedBatch`.
        caption: (N,) long, ids of the captions where these have their own.
        negatives: of the tokenizer, T texts that are hard negatives of single pairs.
        negative_rows: (N, K) long, those of each pair; -1 where it has fewer than K.
    """

    images: Tensor
    texts: Mapping[str, Tensor]
    index: Tensor
    same: tuple[Tensor, Tensor]
    graded: tuple[Tensor, ...] = ()
    caption: Tensor | None = None
    negatives: Mapping[str, Tensor] | None = None
    negative_rows: Tensor | None = None

    def at(self, rows: Tensor) -> PairInputs:
        """Return these samples, (N,) bool; the texts that are negatives stay as they are."""
        images, captions = (ids[rows.to(ids.device)] for ids in self.same)
        return dataclasses.replace(
            self,
            images=self.images[rows],
            texts={name: ids[rows] for name, ids in self.texts.items()},
            index=self.index[rows],
            same=(images, captions),
            graded=tuple(column[rows] for column in self.graded),
            caption=None if self.caption is None else self.caption[rows],
            negative_rows=None if self.negative_rows is None else self.negative_rows[rows],
        )
