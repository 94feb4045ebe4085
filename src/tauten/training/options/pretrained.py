"""Settings that a pretrained model fixes in a configuration: its width, its pictures."""

from __future__ import annotations

import copy
import dataclasses
import logging
from typing import TYPE_CHECKING, Any

from tauten.models.tower import Tower
from tauten.training.options.config import Config, DataConfig, ModelConfig

if TYPE_CHECKING:
    pass

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
    """Put what the pretrained models fix in the place of what stands for it, and their whole names.

    That is the width of a joint model's own space for ``model.dim``, except where weights are those
    of another run, and with ``data.image_size=0`` the size, crop and filter of the image model's
    pictures.

    Raises:
        ValueError: no model can be read, or it does not say what its pictures were.
    """
    model = _resolved(config.model)
    if model is not config.model:
        config = dataclasses.replace(config, model=model)
    if config.data.image_size == 0:
        config = dataclasses.replace(config, data=_as_trained(config.data, model))
    if config.form != "pairs" or config.init is not None or not is_joint_model(model):
        return config
    from tauten.models.hf_weights import read_config
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


def _resolved(model: ModelConfig) -> ModelConfig:
    """Return the towers under the names of the hub, or their folders."""
    from tauten.models.named import has_kind, tower_name

    towers = {side: getattr(model, side) for side in ("image", "text")}
    if not any(map(has_kind, towers.values())):
        return model
    names: dict[str, Any] = {s: tower_name(name, f"model.{s}") for s, name in towers.items()}
    return dataclasses.replace(model, **names)


def from_model(config: Config, name: str) -> Config:
    """Return a configuration that starts from a model with both towers, such as CLIP.

    Towers, projections and width are its own, and so are size, crop and filter of the pictures. A
    learned τ starts at the model's, and a learned bias, of ``family=siglip``, at its bias.

    Args:
        config: of loss and control that are wanted; it is not changed.
        name: ``clip:NAME``, ``siglip:NAME``, ``open_clip:NAME``, ``hf:NAME``, or a folder.

    Raises:
        ValueError: no such model, or one without a common space.
    """
    from tauten.models.hf_weights import read_config
    from tauten.models.image_settings import image_settings
    from tauten.models.joint import joint_width
    from tauten.models.named import joint_name, scale_and_bias

    place = joint_name(name)
    shape = read_config(place)
    width, size = joint_width(shape), getattr(shape.vision_config, "image_size", 0)
    assert width is not None
    if image_settings(place).size is not None or not isinstance(size, int):
        size = 0
    tau, bias = scale_and_bias(place)
    changed = copy.copy(config)
    changed.model = dataclasses.replace(config.model, image=place, text=place, dim=width)
    changed.data = dataclasses.replace(config.data, image_size=size)
    control = config.control
    temperature = config.loss.strength == "temperature"
    if tau is not None and temperature and control.kind == "learnable":
        ends: dict[str, Any] = {"low": min(vars(control)["low"], tau)}
        ends["high"] = max(vars(control)["high"], tau)
        changed.control = dataclasses.replace(control, **ends | {"value": tau})
        logger.info("%s: τ is learned from its own, %.4g", name, tau)
    elif tau is not None and temperature:
        logger.warning(
            "%s was trained to τ = %.4g; control.kind=learnable would start there, and "
            "control.value is yours to choose for others",
            name,
            tau,
        )
    if bias is not None and hasattr(config.loss, "bias"):
        start: dict[str, Any] = {"bias": bias}
        changed.loss = dataclasses.replace(config.loss, **start)
    elif bias is not None:
        logger.warning("%s was trained with family=siglip, this is %s", name, config.family)
    return changed


def prepared(data: DataConfig) -> tuple[int, int]:
    """Return the size that pictures are brought to, and how."""
    if data.edge == 0 and data.resample == "bicubic":
        return data.image_size, data.image_size
    from tauten.data.sizes import Prepared

    return Prepared(data.image_size, data.edge or None, data.resample, data.crop)


def tell_of_pixels(tower: Tower, name: str, data: DataConfig) -> None:
    """Say in the log where pictures are brought to another size or shape than in its training."""
    trained = getattr(getattr(tower, "image_tower", tower), "trained_on", None)
    if trained is None or trained.size is None:
        return
    if (trained.size, trained.edge) != (data.image_size, data.edge or None):
        logger.warning(
            "%s was trained on %s; here it is %s: data.image_size=0 is as in its training",
            name,
            _way(trained.size, trained.edge),
            _way(data.image_size, data.edge or None),
        )


def _way(size: int, edge: int | None) -> str:
    if edge is None:
        return f"whole pictures squashed to {size}x{size} pixels"
    return f"the middle {size}x{size} pixels of pictures with a shorter side of {edge}"


def _as_trained(data: DataConfig, model: ModelConfig) -> DataConfig:
    from tauten.models.image_settings import image_settings

    trained = image_settings(model.image) if is_pretrained(model) else None
    if trained is None or trained.size is None or data.strip:
        raise ValueError(
            f"data.image_size=0 is the size of a pretrained Hugging Face model's pictures, and "
            f"{'strips of frames have' if data.strip else f'{model.image} says'} none: give a "
            "number of pixels"
        )
    logger.info("%s: %s", model.image, _way(trained.size, trained.edge))
    how: Any = {"resample": trained.resample, "edge": trained.edge or 0}
    crop = trained.crop if trained.edge else "down"
    return dataclasses.replace(data, image_size=trained.size, crop=crop, **how)
