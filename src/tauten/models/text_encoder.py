"""A dual encoder whose both sides are texts of one tower."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tauten.models.dual_encoder import TEXTS, DualEncoder
from tauten.models.tower import Description, TextInputs, Tower


class TextEncoder(DualEncoder):
    """A text tower with its projection, through which the texts of both sides go.

    Args:
        text_tower: as of :class:`DualEncoder`.
        dim: width d of the common space.

    Raises:
        ValueError: dim < 1.
    """

    def __init__(self, text_tower: Tower, dim: int = 256) -> None:
        super().__init__(text_tower, text_tower, dim)
        for name in ("image_tower", "image_projection"):
            del self._modules[name]

    def __getattr__(self, name: str) -> Any:
        """Return the text tower and its projection in the place of those of images, too."""
        if name in ("image_tower", "image_projection"):
            name = name.replace("image", "text")
        return super().__getattr__(name)

    def describe(self) -> Description:
        """Return a JSON-serialisable dict for :meth:`DualEncoder.from_description`."""
        return super().describe() | {"image": {"kind": TEXTS}}

    def encode_image(self, images: Tensor) -> Tensor:
        """Map (N, 2, L) long, ids and attention mask of the first texts, to (N, dim).

        Raises:
            ValueError: anything else, such as pictures.
        """
        if images.dim() != 3 or images.shape[1] != 2:
            raise ValueError(
                "both sides of this model are texts, (N, 2, L) ids and attention mask, got "
                f"{tuple(images.shape)}: encode_text takes what a tokenizer gives"
            )
        return self.encode_text({"input_ids": images[:, 0], "attention_mask": images[:, 1]})


def stacked(texts: TextInputs) -> Tensor:
    """Return a tokenizer's output as (N, 2, L) long, as :class:`TextEncoder` takes it."""
    return torch.stack([texts["input_ids"], texts["attention_mask"]], dim=1)
