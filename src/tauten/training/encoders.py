"""Towers and encoders, built from a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from tauten.models import (
    BagTower,
    ConvTower,
    DualEncoder,
    EfficientNetLite,
    FeatureTower,
    HFImageTower,
    HFTextTower,
    ResNetTower,
    TextEncoder,
    VideoTower,
    ViewEncoder,
    load_published,
)
from tauten.models.hf_weights import read_config
from tauten.models.tower import Tower
from tauten.training.options.config import ModelConfig
from tauten.training.options.pretrained import is_joint_model

logger = logging.getLogger("tauten.training")

#: residual networks with random weights, by name; "-cifar" has the stem for small images
_RESNETS: dict[str, Callable[[], Tower]] = {
    "resnet18": partial(ResNetTower, 18),
    "resnet34": partial(ResNetTower, 34),
    "resnet50": partial(ResNetTower, 50),
    "resnet18-cifar": partial(ResNetTower, 18, "cifar"),
    "resnet50-cifar": partial(ResNetTower, 50, "cifar"),
}


def build_encoder(
    config: ModelConfig,
    vocabulary_size: int,
    frames: int = 0,
    image_size: int | None = None,
    features: int = 0,
    texts: bool = False,
) -> DualEncoder:
    """Build the towers, with random or pretrained weights.

    Args:
        config: of the towers.
        vocabulary_size: of the tokenizer.
        frames: of each clip; 0 for images.
        image_size: of their frames; needed by published towers of clips only.
        features: width of the vectors in the place of images, for model.image=features.
        texts: whether both sides are texts.

    Raises:
        ValueError: a published dual encoder with other texts or another width than configured.
    """
    if texts:
        return TextEncoder(text_tower(config, vocabulary_size), config.dim)
    if config.image.endswith((".pt", ".pth")):
        return _published(config, vocabulary_size, frames, image_size)
    augmentation = config.augmentation if config.augment else None
    if config.image == "features":
        augmentation = None
    if is_joint_model(config):
        encoder = DualEncoder.from_pretrained(
            config.image, config.text, config.dim, augmentation, config.text_pooling
        )
        _check_vocabulary(encoder.text_tower, vocabulary_size, config.text)
        if frames:
            encoder.image_tower = VideoTower(encoder.image_tower, config.temporal)
        return encoder
    return DualEncoder(
        image_tower(config, frames, features),
        text_tower(config, vocabulary_size),
        config.dim,
        augmentation,
    )


def _published(
    config: ModelConfig, vocabulary_size: int, frames: int, image_size: int | None
) -> DualEncoder:
    """Load both towers of a checkpoint of AVION or LaViLa."""
    if not frames or config.text in ("words", "ngrams"):
        raise ValueError(
            f"{config.image} takes clips and the texts of CLIP: set data.frames, and model.text to "
            f"the name or folder of CLIP's tokenizer, got {frames} and {config.text!r}"
        )
    augmentation = config.augmentation if config.augment else None
    encoder = load_published(
        config.image, frames=frames, image_size=image_size, augmentation=augmentation
    )
    text: Any = encoder.text_tower
    known = text.model.config.vocab_size
    if vocabulary_size > known or config.dim != encoder.dim:
        raise ValueError(
            f"{config.image} knows {known} tokens and has model.dim={encoder.dim}: the tokenizer "
            f"{config.text!r} has {vocabulary_size}, and model.dim={config.dim}"
        )
    return encoder


def build_view_encoder(config: ModelConfig) -> ViewEncoder:
    """Build the image tower and a projector, for two views."""
    return ViewEncoder(_pictures(config), config.dim, config.projector, config.views)


def image_tower(config: ModelConfig, frames: int = 0, features: int = 0) -> Tower:
    """Build a tower of pictures, of clips of so many frames, or of features of this width."""
    if config.image == "features":
        return FeatureTower(features, config.feature_hidden)
    return VideoTower(_pictures(config), config.temporal) if frames else _pictures(config)


def _pictures(config: ModelConfig) -> Tower:
    if config.image == "convolutional":
        return ConvTower(config.channels, config.grid)
    if config.image in _RESNETS:
        return _RESNETS[config.image]()
    if config.image == "efficientnet-lite0":
        if config.random_weights:
            return EfficientNetLite(config.grid)
        return EfficientNetLite.from_pretrained(config.grid)
    if config.random_weights:
        return HFImageTower.from_config(read_config(config.image))
    return HFImageTower.from_pretrained(config.image)


def text_tower(config: ModelConfig, vocabulary_size: int) -> Tower:
    """Build a tower of texts."""
    if config.text in ("words", "ngrams"):
        return BagTower(vocabulary_size, config.text_width)
    if config.random_weights:
        tower = HFTextTower.from_config(read_config(config.text), pooling=config.text_pooling)
    else:
        tower = HFTextTower.from_pretrained(config.text, config.text_pooling)
    _check_vocabulary(tower, vocabulary_size, config.text)
    return tower


def _check_vocabulary(tower: Any, size: int, name: str) -> None:
    """Refuse a tokenizer with more tokens than the model; tell of one with less than half."""
    try:
        known = tower.model.get_input_embeddings().num_embeddings
    except NotImplementedError:  # the text part of CLIP in the first releases of transformers 5
        known = tower.model.config.vocab_size
    if size > known:
        raise ValueError(
            f"the tokenizer of {name} has {size:,} tokens, the model {known:,}: save the model's "
            "own tokenizer beside it"
        )
    if 2 * size < known:
        logger.warning(
            "%s: its tokenizer has %s tokens, the model has %s: is it the model's own?",
            name,
            f"{size:,}",
            f"{known:,}",
        )
