"""Rules for options of memory and speed, checked before data are read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tauten.training.options.config import Config

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
    launched = os.environ.get(_LAUNCHED, "no")
    if launched not in ("no", precision):
        raise ValueError(
            f"{_LAUNCHED}={launched} in the environment, as accelerate's configuration sets it, is "
            f"not optim.precision={precision}, which a run records: give optim.precision=bf16, or "
            f"unset {_LAUNCHED}"
        )
