"""What a pretrained model fixes of a configuration: its width, its pictures."""

from __future__ import annotations

import dataclasses
import logging

from tauten.models.tower import Tower
from tauten.training.config import Config, ModelConfig

logger = logging.getLogger("tauten.training")

_BUILT_IN = ("convolutional", "efficientnet-lite0", "features", "resnet")


def is_pretrained(config: ModelConfig) -> bool:
    """Tell an image tower that is a Hugging Face model with its weights."""
    built_in = config.image.startswith(_BUILT_IN) or config.image.endswith((".pt", ".pth"))
    return not built_in and not config.random_weights


def is_joint_model(config: ModelConfig) -> bool:
    """Tell two towers that are the same pretrained model, such as CLIP."""
    return is_pretrained(config) and config.image == config.text


def as_pretrained(config: Config) -> Config:
    """Put the width of a joint model's own space in the place of ``model.dim``.

    Raises:
        ValueError: no model can be read.
    """
    model = config.model
    if config.task != "pairs" or not is_joint_model(model):
        return config
    from tauten.models.huggingface import read_config
    from tauten.models.joint import joint_width

    width = joint_width(read_config(model.image))
    if width is None or width == model.dim:
        return config
    logger.warning(
        "model.dim=%d becomes %d, the width of the common space of %s, whose projections are taken",
        model.dim,
        width,
        model.image,
    )
    return dataclasses.replace(config, model=dataclasses.replace(model, dim=width))


def tell_of_pixels(tower: Tower, name: str, size: int | None) -> None:
    """Say in the log where pictures are brought to another size or shape than in its training."""
    trained = getattr(tower, "trained_on", None)
    if trained is None or trained.size is None or size is None:
        return
    if (trained.size, trained.edge) != (size, None):
        way = (
            "whole pictures squashed"
            if trained.edge is None
            else f"the middle of pictures whose shorter side was {trained.edge} pixels, cut"
        )
        logger.warning(
            "%s was trained on %s to %dx%d pixels; here whole pictures are squashed to %dx%d "
            "(data.image_size)",
            name,
            way,
            trained.size,
            trained.size,
            size,
            size,
        )
