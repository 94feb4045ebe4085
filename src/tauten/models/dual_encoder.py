"""Two towers, two projections, one common space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tauten.models.augmentation import Augmentation
from tauten.models.augmentation_options import AugmentationConfig
from tauten.models.bag import BagTower
from tauten.models.convolutional import ConvTower
from tauten.models.efficientnet import EfficientNetLite
from tauten.models.features import FeatureTower
from tauten.models.huggingface import HFImageTower, HFTextTower, load_model
from tauten.models.image_settings import image_settings
from tauten.models.joint import is_joint, joint_projections
from tauten.models.pooling import Pooling
from tauten.models.resnet import ResNetTower
from tauten.models.saved import logger
from tauten.models.sentence import sentence_settings
from tauten.models.space_time import SpaceTimeViT
from tauten.models.tower import Description, TextInputs, Tower
from tauten.models.video import VideoTower

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
    def from_configs(
        cls,
        image: Any,
        text: Any,
        dim: int = 256,
        augmentation: AugmentationConfig | None = None,
    ) -> DualEncoder:
        """Build two Hugging Face towers with random weights, from two ``PreTrainedConfig``."""
        return cls(
            HFImageTower.from_config(image), HFTextTower.from_config(text), dim, augmentation
        )

    @classmethod
    def from_description(cls, description: Description) -> DualEncoder:
        """Build the architecture that :meth:`describe` returned, with random weights."""
        if description["image"]["kind"] == TEXTS:
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


class ModalEncoder(DualEncoder):
    """A dual encoder with further modalities of pictures, each with a tower and a projection.

    Args:
        image_tower: as of :class:`DualEncoder`.
        text_tower: likewise.
        dim: width d of the common space.
        augmentation: applied to the pictures of all modalities in training mode.
        others: tower of each further modality by its name.

    Raises:
        ValueError: dim < 1, or no further modality.
    """

    def __init__(
        self,
        image_tower: Tower,
        text_tower: Tower,
        dim: int = 256,
        augmentation: AugmentationConfig | None = None,
        *,
        others: Mapping[str, Tower],
    ) -> None:
        super().__init__(image_tower, text_tower, dim, augmentation)
        if not others:
            raise ValueError("others must name a tower of a further modality, got none")
        self.names = list(others)
        self.other_tower = nn.ModuleList(others.values())
        self.other_projection = nn.ModuleList(
            nn.Linear(tower.width, dim, bias=False) for tower in others.values()
        )

    @classmethod
    def around(cls, encoder: DualEncoder, others: Mapping[str, Tower]) -> ModalEncoder:
        """Return an encoder with the towers and projections of another one, and further towers."""
        how = None if encoder.augmentation is None else encoder.augmentation.config
        made = cls(encoder.image_tower, encoder.text_tower, encoder.dim, how, others=others)
        made.image_projection = encoder.image_projection
        made.text_projection = encoder.text_projection
        return made

    def freeze(self, *sides: Literal["image", "text"]) -> None:
        """Leave towers as they are, see :meth:`DualEncoder.freeze`; all of pictures as one."""
        super().freeze(*sides)
        if "image" in sides:
            self._frozen = (*self._frozen, "other_tower")
            self.other_tower.requires_grad_(False)
            self.train(self.training)

    def describe(self) -> Description:
        """Return a JSON-serialisable dict for :meth:`DualEncoder.from_description`."""
        towers: Any = zip(self.names, self.other_tower, strict=True)
        return super().describe() | {"others": {name: tower.describe() for name, tower in towers}}

    def encode_other(self, name: str, images: Tensor) -> Tensor:
        """Map pictures (N, 3, H, W) of a further modality to (N, dim), not normalised.

        Raises:
            ValueError: an unknown name.
        """
        if name not in self.names:
            raise ValueError(f"there is no modality {name!r}, only {', '.join(self.names)}")
        place = self.names.index(name)
        images = self._prepared(images)
        out: Tensor = self.other_projection[place](self.other_tower[place](images))
        return out


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


def build_tower(description: Description) -> Tower:
    """Build the tower that :meth:`Tower.describe` described, with random weights.

    Raises:
        ValueError: a kind that is not known.
    """
    arguments = {name: value for name, value in description.items() if name != "kind"}
    kinds: dict[str, Any] = {
        "convolutional": ConvTower,
        "bag": BagTower,
        "efficientnet-lite0": EfficientNetLite,
        "features": FeatureTower,
        "resnet": ResNetTower,
        "huggingface-image": HFImageTower.from_description,
        "huggingface-text": HFTextTower.from_description,
        "video": _video,
        "space-time": SpaceTimeViT,
    }
    if description["kind"] not in kinds:
        raise ValueError(f"unknown tower {description['kind']!r}, known are {sorted(kinds)}")
    tower: Tower = kinds[description["kind"]](**arguments)
    return tower


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


def _video(image: Description, **arguments: Any) -> Tower:
    return VideoTower(build_tower(image), **arguments)
