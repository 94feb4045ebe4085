"""Captions that differ from the picture's own in one attribute, as hard negatives.

The idea of NegCLIP, of DeGLA's image-grounded contrast and of generative negative mining; here the
negatives are not generated: they are the real names of other emoji.
"""

from __future__ import annotations

from functools import partial

from tauten.recipes.emoji import emoji
from tauten.recipes.recipe import Recipe
from tauten.training import Config, specs

_row = partial(
    Recipe,
    epochs=15.0,
    then="--data emoji_lt --negatives one_apart",
    choice="all: the small towers of the emoji recipes, 15 epochs, τ = 0.1. Of the training "
    "pictures 724 of 3,812 have such captions, 1 to 10 each, and of the test pictures 160 of 943.",
)


def _wording(epochs: float, negatives: str | None) -> Config:
    config = emoji(epochs, specs.control("constant", value=0.1), specs.loss("infonce"))
    config.data.negatives = negatives
    return config


@partial(_row, remark="it is the baseline of emoji_wording.")
def emoji_wording_baseline(epochs: float) -> Config:
    """emoji_lt, InfoNCE without hard negatives, for compositional accuracy."""
    return _wording(epochs, None)


@partial(
    _row,
    then="",
    settings="captions that differ in one attribute are negatives of their picture alone (as in "
    "DeGLA and generative negative mining).",
)
def emoji_wording(epochs: float) -> Config:
    """emoji_lt, InfoNCE with captions that differ in one attribute as hard negatives."""
    return _wording(epochs, "one_apart")
