"""Rules for options of memory and speed, checked before data are read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tauten.training.options.config import ModelConfig

#: towers that begin at random
_RANDOM = ("convolutional", "resnet", "words", "ngrams")
_LAUNCHED = "ACCELERATE_MIXED_PRECISION"


def check_compute(model: ModelConfig, precision: str, task: str, *, anew: bool) -> None:
    """Refuse frozen towers of random weights, and a precision that only the environment names.

    Args:
        model: whose towers may be frozen.
        precision: of the towers.
        task: by its name.
        anew: whether the towers do not begin with the weights of another run.

    Raises:
        ValueError: with the option.
    """
    frozen = ("image", "text") if model.freeze == "both" else (model.freeze,)
    for side in frozen if anew else ():
        name = getattr(model, side, "")
        if name.startswith(_RANDOM) or (model.random_weights and side != "none"):
            raise ValueError(
                f"model.freeze={model.freeze}, but model.{side}={name} begins with random weights: "
                "give a pretrained tower, or a run by init"
            )
    _check_adapters(model, task, anew=anew)
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


def _check_adapters(model: ModelConfig, task: str, *, anew: bool) -> None:
    """Refuse adapters of towers that are frozen, built in, or begin with random weights."""
    for side in adapted(model, task):
        name = getattr(model, side)
        if model.freeze in (side, "both"):
            raise ValueError(
                f"model.freeze={model.freeze} leaves the {side} tower as it is, and model.lora="
                f"{model.lora} trains adapters in it: choose one of both, or model.lora_towers"
            )
        if anew and (name.startswith(_RANDOM) or model.random_weights):
            raise ValueError(
                f"model.lora={model.lora}, but model.{side}={name} begins with random weights, "
                "which adapters alone do not train: give a pretrained Hugging Face model, or "
                "model.lora_towers of the other side"
            )
