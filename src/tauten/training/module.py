"""Towers and loss as one module, so that both are in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tauten.losses import ContrastiveLoss, NonFiniteLossError
from tauten.models import DualEncoder


class ContrastiveModule(nn.Module):
    """A dual encoder and the loss on its embeddings.

    Args:
        encoder: the towers.
        loss_fn: with its controls, counters and tables.
        mask_duplicates: whether pairs that share an image or caption are left out as negatives.
    """

    def __init__(
        self, encoder: DualEncoder, loss_fn: ContrastiveLoss, mask_duplicates: bool = True
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.loss_fn = loss_fn
        self.mask_duplicates = mask_duplicates

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
        x, y = self.encoder(images, texts)
        for name, side in (("image", x), ("text", y)):
            if not bool(side.detach().isfinite().all()):
                raise NonFiniteLossError(f"the {name} tower returned NaN or infinite values")
        return {"loss": self.loss_fn(x, y, index, same=same if self.mask_duplicates else ())}
