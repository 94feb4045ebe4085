"""A tower made of any Hugging Face vision model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tauten.models.hf_weights import (
    at_random,
    check_weights,
    image_part,
    load_model,
    rebuilt,
    width_of,
    without_pooler,
)
from tauten.models.image_settings import ImageSettings, image_settings
from tauten.models.pooling import Pooling, pool
from tauten.models.saved import one_line
from tauten.models.tower import Description, Tower


class HFImageTower(Tower):
    """A Hugging Face vision model.

    A masked autoencoder sees the whole picture.

    Args:
        model: called with ``pixel_values``.
        pooling: see :func:`pool`.
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divided by.
        bgr: the model takes the channels in the order blue, green, red.

    Attributes:
        trained_on: how a pretrained model's pictures were prepared.

    Raises:
        ValueError: the width of the vectors cannot be told.
    """

    mean: Tensor
    std: Tensor
    trained_on: ImageSettings | None = None

    def __init__(
        self,
        model: Any,
        pooling: Pooling = "auto",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.bgr = bgr
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)
        if hasattr(model.config, "mask_ratio"):
            model.config.mask_ratio = 0.0
        width = width_of(model.config)
        self.width = self._tried_width() if width is None else width

    @classmethod
    def from_config(cls, config: Any, **kwargs: Any) -> HFImageTower:
        """Build the tower with random weights."""
        return cls(image_part(at_random(getattr(config, "vision_config", config))), **kwargs)

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> HFImageTower:
        """Load weights as float32, with the mean and std that the model was trained with.

        Args:
            name: name of the model, or its folder.
            **kwargs: passed to ``AutoModel.from_pretrained``.

        Raises:
            ValueError: no model can be read, or it cannot be an image tower.
        """
        model, missing = load_model(name, **kwargs)
        return cls.of_model(model, image_settings(name, **kwargs), missing, name)

    @classmethod
    def of_model(
        cls, model: Any, settings: ImageSettings, missing: Sequence[str], name: str | Path
    ) -> HFImageTower:
        """Make a tower of the image part of a model.

        Args:
            model: the whole model.
            settings: settings of its processor.
            missing: weights that its file did not have.
            name: for messages.

        Raises:
            ValueError: most weights are missing, or the settings of its processor are unusable.
        """
        pooling = without_pooler(missing, name, "first", ("vision_model.pooler", "pooler"))
        part = image_part(model)
        check_weights(model, part, missing, name)
        if {len(settings.mean), len(settings.std)} - {1, 3} or not min(settings.std) > 0:
            raise ValueError(
                f"{name}: image_mean and image_std of its processor must be numbers for three "
                f"channels, image_std above 0, and are {settings.mean} and {settings.std}"
            )
        tower = cls(part, pooling or "auto", settings.mean, settings.std, settings.bgr)
        tower.trained_on = settings
        return tower

    @classmethod
    def from_description(cls, config: dict[str, Any], **kwargs: Any) -> HFImageTower:
        """Build the architecture that :meth:`describe` returned, with random weights."""
        return cls.from_config(rebuilt(config), **kwargs)

    def inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Map (N, 3, H, W) in [0, 1] to the arguments of the model."""
        pixels = ((images.flip(1) if self.bgr else images) - self.mean) / self.std
        kind, side = self.model.config.model_type, getattr(self.model.config, "patch_size", 1)
        if kind == "vit_mae":
            places = (pixels.shape[2] // side) * (pixels.shape[3] // side)
            order = torch.arange(places, device=pixels.device)
            return {"pixel_values": pixels, "noise": order.expand(len(pixels), -1)}
        if kind == "siglip2_vision_model":
            return _patches(pixels, side)
        return {"pixel_values": pixels}

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to (N, width).

        Raises:
            ValueError: images of a size that the model does not take.
        """
        try:
            return pool(self.model(**self.inputs(images)), None, self.pooling)
        except (ValueError, TypeError, AttributeError) as error:
            height, width = images.shape[-2:]
            size = getattr(self.model.config, "image_size", None)
            raise ValueError(
                f"{type(self.model).__name__} does not take images of {width}x{height} pixels"
                f"{f' (data.image_size; it was made for {size})' if size else ''}: "
                f"{one_line(error)}"
            ) from error

    @torch.no_grad()
    def _tried_width(self) -> int:
        """Return the width of the vector of an empty image."""
        config, training = self.model.config, self.model.training
        reason = ""
        for side in dict.fromkeys((64, getattr(config, "image_size", 64))):
            try:
                width = self.eval()(torch.zeros(1, 3, side, side, device=self.mean.device)).shape[1]
                self.train(training)
                return int(width)
            except Exception as error:  # models of any kind
                reason = one_line(error)
        raise ValueError(f"cannot tell the width of a {type(config).__name__}: {reason}")

    def describe(self) -> Description:
        """Return a description from which the same tower can be built."""
        return {
            "kind": "huggingface-image",
            "config": self.model.config.to_dict(),
            "pooling": self.pooling,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        } | ({"bgr": True} if self.bgr else {})


def _patches(pixels: Tensor, side: int) -> dict[str, Tensor]:
    """Map (N, 3, H, W) to the arguments of a model that takes patches of pictures of any shape."""
    count, _, height, width = pixels.shape
    if height % side or width % side:
        raise ValueError(f"it takes multiples of {side} pixels")
    rows, columns = height // side, width // side
    patches = pixels.unfold(2, side, side).unfold(3, side, side)  # N 3 rows columns side side
    flat = patches.permute(0, 2, 3, 4, 5, 1).reshape(count, rows * columns, -1)
    return {
        "pixel_values": flat,
        "pixel_attention_mask": torch.ones(flat.shape[:2], dtype=torch.int32, device=flat.device),
        "spatial_shapes": torch.tensor([[rows, columns]] * count),
    }
