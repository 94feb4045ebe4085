"""A text tower that averages token embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.models.tower import Description, Tower


class BagTower(Tower):
    """Mean of the embeddings of a text's tokens, words or character n-grams.

    Token order is ignored. fastText (Bojanowski et al., 2017) with n-gram tokens.

    Args:
        vocabulary_size: number of token ids; id 0 is padding.
        width: width of the embeddings.
    """

    def __init__(self, vocabulary_size: int, width: int = 256) -> None:
        super().__init__()
        if vocabulary_size < 2 or width < 1:
            raise ValueError(
                f"BagTower needs vocabulary_size >= 2 and width >= 1, got {vocabulary_size} and "
                f"{width}"
            )
        self.vocabulary_size = vocabulary_size
        self.width = width
        self.embedding = nn.Parameter(torch.randn(vocabulary_size, width) * width**-0.5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Map (N, L) ids, padded with 0, to (N, width); the mask is implied by the padding."""
        return F.embedding_bag(input_ids, self.embedding, mode="mean", padding_idx=0)

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {
            "kind": "bag",
            "vocabulary_size": self.vocabulary_size,
            "width": self.width,
        }
