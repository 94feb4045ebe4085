"""Rules for options of memory and speed, checked before data are read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tauten.training.options.config import Config, ModelConfig

#: towers that begin at random
_RANDOM = ("convolutional", "resnet", "words", "ngrams")
_LAUNCHED = "ACCELERATE_MIXED_PRECISION"


def check_compute(config: Config) -> None:
    """Refuse frozen towers of random weights, and a precision that only the environment names.

    Raises:
        ValueError: with the option.
    """
    model, precision = config.model, config.optim.precision
    frozen = ("image", "text") if model.freeze == "both" else (model.freeze,)
    if model.freeze != "none" and config.task == "views":
        raise ValueError(
            f"model.freeze={model.freeze}: two views train the image tower alone; leave it out"
        )
    for side in frozen if config.init is None else ():
        name = getattr(model, side, "")
        if name.startswith(_RANDOM) or (model.random_weights and side != "none"):
            raise ValueError(
                f"model.freeze={model.freeze}, but model.{side}={name} begins with random weights: "
                "give a pretrained tower, or a run by init"
            )
    _check_adapters(config)
    launched = os.environ.get(_LAUNCHED, "no")
    if launched not in ("no", precision):
        raise ValueError(
            f"{_LAUNCHED}={launched} in the environment, as accelerate's configuration sets it, is "
            f"not optim.precision={precision}, which a run records: give optim.precision=bf16, or "
            f"unset {_LAUNCHED}"
        )


def adapted(model: ModelConfig, task: str) -> tuple[str, ...]:
    """Return the sides whose towers have adapters."""
    if not model.lora:
        return ()
    if task == "views":
        return ("image",)
    return ("image", "text") if model.lora_towers == "both" else (model.lora_towers,)


def _check_adapters(config: Config) -> None:
    """Refuse adapters of towers that are frozen, built in, or begin with random weights."""
    model = config.model
    for side in adapted(model, config.task):
        name = getattr(model, side)
        if model.freeze in (side, "both"):
            raise ValueError(
                f"model.freeze={model.freeze} leaves the {side} tower as it is, and model.lora="
                f"{model.lora} trains adapters in it: choose one of both, or model.lora_towers"
            )
        if config.init is None and (name.startswith(_RANDOM) or model.random_weights):
            raise ValueError(
                f"model.lora={model.lora}, but model.{side}={name} begins with random weights, "
                "which adapters alone do not train: give a pretrained Hugging Face model, or "
                "model.lora_towers of the other side"
            )
