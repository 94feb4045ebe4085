"""Towers and loss as one module, so that both are in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from tauten.losses import ContrastiveLoss, NonFiniteLossError
from tauten.models import DualEncoder
from tauten.training.chunks import check_rowwise, encode_in_chunks


@dataclass(frozen=True)
class EmbeddedBatch:
    """What the loss was given for a batch, detached.

    Attributes:
        x: (N, d) image embeddings.
        y: (N, d) text embeddings.
        index: (N,) long, data set positions.
        same: id vectors (N,) of pairs that are no negatives of each other.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    same: tuple[Tensor, ...]

    def first(self, count: int) -> EmbeddedBatch:
        """The first pairs, ``count`` at most."""
        same = tuple(ids[:count] for ids in self.same)
        return EmbeddedBatch(self.x[:count], self.y[:count], self.index[:count], same)


class ContrastiveModule(nn.Module):
    """A dual encoder and the loss on its embeddings; ``last_batch`` is that of training.

    Args:
        encoder: the towers.
        loss_fn: with its controls, counters and tables.
        mask_duplicates: whether pairs that share an image or caption are left out as negatives.
        chunk: pairs whose activations are held at a time in training; None for all.

    Raises:
        ValueError: chunks with an encoder that normalises over the batch.
    """

    def __init__(
        self,
        encoder: DualEncoder,
        loss_fn: ContrastiveLoss,
        mask_duplicates: bool = True,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        if chunk is not None:
            check_rowwise(encoder)
        self.encoder = encoder
        self.loss_fn = loss_fn
        self.mask_duplicates = mask_duplicates
        self.chunk = chunk
        self.last_batch: EmbeddedBatch | None = None

    def forward(
        self,
        images: Tensor,
        texts: Mapping[str, Tensor],
        index: Tensor,
        same: tuple[Tensor, Tensor],
    ) -> dict[str, Tensor]:
        """The loss of a batch, as ``{"loss": scalar}``.

        Raises:
            NonFiniteLossError: an embedding or the loss is NaN or infinite.
        """
        if self.chunk is None or not self.training:
            x, y = self.encoder(images, texts)
        else:
            x, y = encode_in_chunks(self.encoder, images, texts, self.chunk)
        for name, side in (("image", x), ("text", y)):
            if not bool(side.detach().isfinite().all()):
                raise NonFiniteLossError(f"the {name} tower returned NaN or infinite values")
        masked = same if self.mask_duplicates else ()
        if self.training:
            self.last_batch = EmbeddedBatch(x.detach(), y.detach(), index, masked)
        return {"loss": self.loss_fn(x, y, index, same=masked)}
