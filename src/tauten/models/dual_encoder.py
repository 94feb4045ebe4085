"""Two towers, two projections, one common space."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tauten.models.augmentation import Augmentation
from tauten.models.augmentation_options import AugmentationConfig
from tauten.models.hf_image import HFImageTower
from tauten.models.hf_text import HFTextTower
from tauten.models.hf_weights import load_model
from tauten.models.image_settings import image_settings
from tauten.models.joint import is_joint, joint_projections
from tauten.models.pooling import Pooling
from tauten.models.saved import logger
from tauten.models.sentence import sentence_settings
from tauten.models.tower import Description, TextInputs, Tower
from tauten.models.tower_kinds import build_tower

#: kind of the first tower where both sides go through the second
TEXTS = "texts"


class DualEncoder(nn.Module):
    """An image tower and a text tower, each followed by a linear projection to ``dim``.

    Args:
        image_tower: images (N, 3, H, W) in [0, 1], or clips (N, T, 3, H, W), to
            (N, image_tower.width).
        text_tower: ``input_ids`` and ``attention_mask`` to (N, text_tower.width).
        dim: width d of the common space.
        augmentation: applied to images in training mode only.

    Raises:
        ValueError: dim < 1.
    """

    def __init__(
        self,
        image_tower: Tower,
        text_tower: Tower,
        dim: int = 256,
        augmentation: AugmentationConfig | None = None,
    ) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.dim = dim
        self.image_tower = image_tower
        self.text_tower = text_tower
        self.image_projection = nn.Linear(image_tower.width, dim, bias=False)
        self.text_projection = nn.Linear(text_tower.width, dim, bias=False)
        self.augmentation = None if augmentation is None else Augmentation(augmentation)
        self._frozen: tuple[str, ...] = ()

    def freeze(self, *sides: Literal["image", "text"]) -> None:
        """Leave towers as they are: without gradients, and in evaluation mode in training too.

        Args:
            sides: whose towers; the projections are trained.
        """
        self._frozen = tuple(f"{side}_tower" for side in sides)
        for name in self._frozen:
            getattr(self, name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> DualEncoder:
        """Set training mode, in which frozen towers stay in evaluation mode."""
        super().train(mode)
        for name in self._frozen:
            getattr(self, name).eval()
        return self

    @classmethod
    def from_pretrained(
        cls,
        image: str | Path,
        text: str | Path,
        dim: int | None = None,
        augmentation: AugmentationConfig | None = None,
        pooling: Pooling = "auto",
        **kwargs: Any,
    ) -> DualEncoder:
        """Build two Hugging Face towers with their weights, from the hub or from folders.

        With the same model on both sides, such as CLIP or SigLIP, its own projections are taken:
        the embeddings are those of its ``get_image_features`` and ``get_text_features``.

        Args:
            image: name or folder of a vision model.
            text: name or folder of a text model.
            dim: width of the common space; None: that of the one model, else 256. With another
                width than the model's own, projections start at random, which the log says.
            augmentation: applied to images in training mode.
            pooling: pooling of the text model's tokens; "auto": as saved with it.
            **kwargs: passed to ``AutoModel.from_pretrained`` of both.

        Raises:
            ValueError: a model that cannot be read, or cannot be a tower.
        """
        if str(image) != str(text):
            towers = (
                HFImageTower.from_pretrained(image, **kwargs),
                HFTextTower.from_pretrained(text, pooling, **kwargs),
            )
            return cls(*towers, 256 if dim is None else dim, augmentation)
        model, missing = load_model(image, **kwargs)
        image_tower = HFImageTower.of_model(model, image_settings(image, **kwargs), missing, image)
        sentence = sentence_settings(text, pooling, **kwargs)
        text_tower = HFTextTower.of_model(model, sentence, missing, text, pooling)
        weights = _common_space(model, image_tower, text_tower, image, dim)
        if weights is None:
            return cls(image_tower, text_tower, 256 if dim is None else dim, augmentation)
        encoder = cls(image_tower, text_tower, len(weights[0]), augmentation)
        with torch.no_grad():
            encoder.image_projection.weight.copy_(weights[0])
            encoder.text_projection.weight.copy_(weights[1])
        return encoder

    @classmethod
    def from_description(cls, description: Description) -> DualEncoder:
        """Build the architecture that :meth:`describe` returned, with random weights."""
        if description["image"]["kind"] == TEXTS:
            from tauten.models.text_encoder import TextEncoder

            return TextEncoder(build_tower(description["text"]), int(description["dim"]))
        augmentation = description.get("augmentation")
        options = (
            build_tower(description["image"]),
            build_tower(description["text"]),
            int(description["dim"]),
            None if augmentation is None else AugmentationConfig(**augmentation),
        )
        others = description.get("others", {})
        if others:
            from tauten.models.modal_encoder import ModalEncoder

            return ModalEncoder(*options, others={n: build_tower(d) for n, d in others.items()})
        return cls(*options)

    def describe(self) -> Description:
        """Return a JSON-serialisable dict for :meth:`from_description`."""
        augmentation = self.augmentation
        return {
            "dim": self.dim,
            "image": self.image_tower.describe(),
            "text": self.text_tower.describe(),
            "augmentation": None if augmentation is None else vars(augmentation.config).copy(),
        }

    def encode_image(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W), or clips (N, T, 3, H, W), to (N, dim), not normalised.

        Args:
            images: uint8, or float in [0, 1].

        Raises:
            ValueError: clips for a tower of images, or images for a tower of clips.
        """
        if self.image_tower.takes_clips != (images.dim() == 5):
            shape = "(N, T, 3, H, W)" if self.image_tower.takes_clips else "(N, 3, H, W)"
            raise ValueError(
                f"{type(self.image_tower).__name__} takes {shape}, got {tuple(images.shape)}: "
                "data.frames is the number of frames of a clip, 0 for images"
            )
        out: Tensor = self.image_projection(self.image_tower(self._prepared(images)))
        return out

    def _prepared(self, images: Tensor) -> Tensor:
        """Return pictures in [0, 1], in training mode changed at random."""
        if images.dtype == torch.uint8:
            images = images.to(self.image_projection.weight.dtype) / 255
        if self.training and self.augmentation is not None and len(images):
            images = self.augmentation(images)
        return images

    def encode_text(self, texts: TextInputs) -> Tensor:
        """Map a tokenizer's output to (N, dim), not normalised."""
        out: Tensor = self.text_projection(self.text_tower(**texts))
        return out

    def forward(self, images: Tensor, texts: TextInputs) -> tuple[Tensor, Tensor]:
        """Return both sides of a batch of pairs, x (N, dim) and y (N, dim)."""
        return self.encode_image(images), self.encode_text(texts)


def _common_space(
    model: Any, image: HFImageTower, text: HFTextTower, name: str | Path, dim: int | None
) -> tuple[Tensor, Tensor] | None:
    """Return the projections of one model that has both towers; None: they start at random."""
    if not is_joint(model):
        return None
    try:
        weights = joint_projections(model, image, text, name)
        width = len(weights[0])
        if dim in (None, width):
            return weights
        reason = f"its width is {width}, not {dim}"
    except ValueError as error:
        reason = str(error)
    logger.warning(
        "%s: its common space is not kept, projections start at random: %s", name, reason
    )
    return None
