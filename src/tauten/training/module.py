"""Towers and loss as one module, so that both are in every checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tauten.losses import SMS, ContrastiveLoss, NonFiniteLossError
from tauten.models import DualEncoder
from tauten.training import processes
from tauten.training.chunks import check_rowwise, encode_in_chunks


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
    """

    x: Tensor
    y: Tensor
    index: Tensor
    same: tuple[Tensor, ...]
    graded: tuple[Tensor, ...] = ()
    caption: tuple[Tensor, ...] = ()

    @property
    def ids(self) -> Tensor | tuple[Tensor, Tensor]:
        """The data set positions of both sides."""
        return (self.index, self.caption[0]) if self.caption else self.index

    @classmethod
    def joined(cls, parts: Sequence[EmbeddedBatch]) -> EmbeddedBatch:
        """Return the pairs of all parts, one after the other."""
        rows = ((p.x, p.y, p.index, *p.caption, *p.graded, *p.same) for p in parts)
        x, y, index, *others = (torch.cat(column) for column in zip(*rows, strict=True))
        own, graded = len(parts[0].caption), len(parts[0].caption) + len(parts[0].graded)
        return cls(
            x, y, index, tuple(others[graded:]), tuple(others[own:graded]), tuple(others[:own])
        )

    def first(self, count: int) -> EmbeddedBatch:
        """Return the first pairs, ``count`` at most."""
        return self._each(lambda column: column[:count])

    def to(self, device: torch.device | str) -> EmbeddedBatch:
        """Move the batch to a device."""
        return self._each(lambda column: column.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> EmbeddedBatch:
        columns = (self.same, self.graded, self.caption)
        same, graded, caption = (tuple(map(change, each)) for each in columns)
        x, y, index = (change(each) for each in (self.x, self.y, self.index))
        return EmbeddedBatch(x, y, index, same, graded, caption)


class ContrastiveModule(nn.Module):
    """A dual encoder and the loss on its embeddings; ``last_batch`` is that of training.

    Args:
        encoder: the towers.
        loss_fn: with its controls, counters and tables.
        mask_duplicates: whether pairs that share an image or caption are left out as negatives.
        chunk: pairs whose activations are held at a time in training; None for all.
        adaptive: whether a max-margin loss is given the relevancy of each pair.

    Raises:
        ValueError: chunks with an encoder that normalises over the batch.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        loss_fn: ContrastiveLoss,
        mask_duplicates: bool = True,
        chunk: int | None = None,
        adaptive: bool = False,
    ) -> None:
        super().__init__()
        if chunk is not None:
            check_rowwise(encoder)
        self.encoder = encoder
        self.loss_fn = loss_fn
        self.mask_duplicates = mask_duplicates
        self.chunk = chunk
        self.adaptive = adaptive
        self.last_batch: EmbeddedBatch | None = None

    def forward(
        self,
        images: Tensor,
        texts: Mapping[str, Tensor],
        index: Tensor,
        same: tuple[Tensor, Tensor],
        graded: tuple[Tensor, ...] = (),
        caption: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss of a batch, as ``{"loss": scalar}``.

        Args:
            images: (N, 3, H, W), or clips.
            texts: of the tokenizer.
            index: (N,) long, data set positions.
            same: ids of images and of captions.
            graded: see :class:`EmbeddedBatch`.
            caption: (N,) long, ids of the captions where these have their own.

        Raises:
            NonFiniteLossError: an embedding or the loss is NaN or infinite, on any process.
        """
        if self.chunk is None or not self.training:
            x, y = self.encoder(images, texts)
        else:
            x, y = encode_in_chunks(self.encoder, images, texts, self.chunk)
        broken = torch.stack([~side.detach().isfinite().all() for side in (x, y)])
        if self.training:
            broken = processes.any_of(broken)
        for name, bad in zip(("image", "text"), broken.tolist(), strict=True):
            if bad:
                raise NonFiniteLossError(f"the {name} tower returned NaN or infinite values")
        masked = same if self.mask_duplicates else ()
        own = () if caption is None else (caption,)
        batch = EmbeddedBatch(x.detach(), y.detach(), index, masked, graded, own)
        if self.training:
            self.last_batch = batch
        return {"loss": self.loss_fn(x, y, batch.ids, same=masked, **self.graded(graded))}

    def graded(self, columns: tuple[Tensor, ...]) -> dict[str, Any]:
        """Return the keywords by which the loss is given the relevancies of a batch."""
        if isinstance(self.loss_fn, SMS):
            return {"relevancy": columns[:2]}
        return {"relevance": columns[2]} if self.adaptive else {}
