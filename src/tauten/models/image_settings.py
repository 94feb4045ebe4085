"""The pixels that a Hugging Face image model was trained on, from the files saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tauten.models.open_clip import is_open_clip, picture_settings
from tauten.models.saved import logger, one_line, saved_json

_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


@dataclass(frozen=True)
class ImageSettings:
    """Preparation of pictures that a model was trained with.

    Attributes:
        mean: per channel, subtracted from pixels in [0, 1].
        std: per channel, divided by.
        bgr: the channels stood in the order blue, green, red.
        size: pixels of the square that the model saw; None: not said.
        edge: the shorter side was scaled to this many pixels before the middle square was cut;
            None: the whole picture was squashed to the square.
        resample: a filter's name.
        crop: how half of what was cut off was rounded, see ``tauten.data.sizes.Prepared``.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    bgr: bool = False
    size: int | None = None
    edge: int | None = None
    resample: str = "bicubic"
    crop: Literal["down", "even"] = "down"


def image_settings(name: str | Path, **place: Any) -> ImageSettings:
    """Read how a model's pictures were prepared, from any layout it may be saved in.

    Those are ``processor_config.json`` (transformers 5), ``preprocessor_config.json``, the
    ``pretrained_cfg`` that timm writes into ``config.json``, and ``open_clip_config.json``. If none
    is there, a line in the log says so.

    Args:
        name: folder of the model, or its name on the hub.
        **place: arguments of ``from_pretrained``.

    Raises:
        ValueError: values of other kinds.
    """
    try:
        return _image_settings(name, place)
    except (AttributeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ValueError(
            f"{name}: how its pictures were prepared cannot be read from its "
            f"preprocessor_config.json, processor_config.json or config.json: {one_line(error)}"
        ) from error


def _image_settings(name: str | Path, place: Mapping[str, Any]) -> ImageSettings:
    if is_open_clip(name):
        return ImageSettings(**picture_settings(name))
    whole = saved_json(name, "processor_config.json", **place) or {}
    settings = whole.get("image_processor") or saved_json(name, "preprocessor_config.json", **place)
    if settings:
        return _of_processor(settings)
    timm = (saved_json(name, "config.json", **place) or {}).get("pretrained_cfg")
    if timm:
        size = int((timm.get("input_size") or [3, 0])[-1]) or None
        return ImageSettings(
            mean=tuple(timm.get("mean") or ImageSettings.mean),
            std=tuple(timm.get("std") or ImageSettings.std),
            size=size,
            edge=None if size is None else int(size / float(timm.get("crop_pct") or 1.0)),
            resample=str(timm.get("interpolation") or ImageSettings.resample),
        )
    logger.warning(
        "%s has no preprocessor_config.json or processor_config.json: pixels are brought to "
        "[-1, 1], mean and std 0.5, which may not be what it was trained on",
        name,
    )
    return ImageSettings()


def _of_processor(settings: Mapping[str, Any]) -> ImageSettings:
    crop = _side(settings.get("crop_size")) if settings.get("do_center_crop") else None
    size = settings.get("size")
    shorter = size.get("shortest_edge") if isinstance(size, Mapping) else None
    if crop is None and settings.get("crop_pct") and shorter:  # ConvNeXT's processor
        crop = shorter
        shorter = int(crop / settings["crop_pct"]) if crop < 384 else None
    mean, std = _statistics(settings)
    resample = settings.get("resample", 3)
    return ImageSettings(
        mean=mean,
        std=std,
        bgr=bool(settings.get("do_flip_channel_order")),
        size=crop or shorter or _side(size),
        edge=shorter or (_side(size) if crop else None),
        resample=_RESAMPLING.get(resample, "bicubic") if isinstance(resample, int) else resample,
    )


def _statistics(settings: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std of pixels in [0,
    1] that do what the processor does with those of 0..255.
    """
    mean, std = [0.0] * 3, [1.0] * 3
    spread = _channels(settings.get("image_std", 0.5))
    if settings.get("do_normalize", "image_mean" in settings):
        mean, std = _channels(settings.get("image_mean", 0.5)), spread
    scale, offset = 255.0, 0.0
    if settings.get("do_rescale", True):
        scale = 255.0 * float(settings.get("rescale_factor", 1 / 255))
        offset = -1.0 if settings.get("rescale_offset") else 0.0
    scale = 1.0 if abs(scale - 1) < 1e-6 else scale
    if str(settings.get("image_processor_type")).startswith("EfficientNet") and settings.get(
        "include_top", True
    ):  # normalised a second time, by std alone
        std = [value * more for value, more in zip(std, spread, strict=True)]
    return (
        tuple((value - offset) / scale for value in mean),
        tuple(value / scale for value in std),
    )


def _channels(value: Any) -> list[float]:
    return [float(value)] * 3 if isinstance(value, int | float) else [float(v) for v in value]


def _side(size: Any) -> int | None:
    """Return the pixels of a square, however they are written."""
    if isinstance(size, Mapping):
        size = size.get("height") or size.get("shortest_edge")
    return size if isinstance(size, int) and size > 0 else None
