"""CLIP on the embedded data, bare and as strong as smoothing and augmentation make it.

Every claim about a temperature should be compared with the strong one, whose parts are those of
ALIGN (Jia et al., ICML 2021) and of CLIP-rocket (Fini et al., TMLR 2023).
"""

from __future__ import annotations

from functools import partial

from tauten.recipes.emoji import emoji
from tauten.recipes.recipe import Recipe
from tauten.training import Config, specs

_row = partial(Recipe, epochs=15.0)
_CHOICE = "all: the small towers of the emoji recipes, 15 epochs, τ learned from 0.07 on."


def _clip(epochs: float, *, smoothing: float, augmented: bool) -> Config:
    """Configure CLIP with a learned τ."""
    control = specs.control("learnable", value=0.07)
    config = emoji(epochs, control, specs.loss("infonce", label_smoothing=smoothing))
    config.model.augment = augmented
    if augmented:
        config.data.alternative, config.data.keywords = 0.3, 0.5
    return config


@partial(_row, remark="it is the bare baseline of emoji_clip_strong.", choice=_CHOICE)
def emoji_clip(epochs: float) -> Config:
    """emoji_lt, CLIP: one learned temperature, neither smoothing nor augmentation."""
    return _clip(epochs, smoothing=0.0, augmented=False)


@partial(
    _row,
    remark="it has ALIGN's loss, and neither its data nor its size.",
    settings="label smoothing 0.1 and a learned τ (Jia et al., ICML 2021).",
    choice=_CHOICE,
)
def emoji_align(epochs: float) -> Config:
    """emoji_lt, ALIGN's loss: one learned temperature, label smoothing 0.1."""
    return _clip(epochs, smoothing=0.1, augmented=False)


@partial(_row, remark="with it and emoji_align the two parts are told apart.", choice=_CHOICE)
def emoji_clip_augmented(epochs: float) -> Config:
    """emoji_lt, CLIP with changed pictures, other names and keywords in the captions."""
    return _clip(epochs, smoothing=0.0, augmented=True)


@partial(
    _row,
    remark="compare what else is claimed with it, and not with emoji_clip.",
    settings="augmentation of both sides and label smoothing 0.1 (CLIP-rocket, Fini et al., 2023).",
    choice=f"{_CHOICE} Its local views, momentum teacher and further losses are left out.",
)
def emoji_clip_strong(epochs: float) -> Config:
    """emoji_lt, CLIP with augmentation of both sides and label smoothing 0.1."""
    return _clip(epochs, smoothing=0.1, augmented=True)
