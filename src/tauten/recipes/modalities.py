"""Three modalities of which one is missing for half of the samples: two drawings and a caption."""

from __future__ import annotations

from functools import partial

from tauten.recipes.emoji import emoji
from tauten.recipes.recipe import Recipe
from tauten.training import Config, specs

_row = partial(
    Recipe,
    epochs=10.0,
    choice="all: the small towers of the emoji recipes, 10 epochs, τ learned from 0.07 on for each "
    "two modalities. The second drawing, by another artist, is there for half of the concepts; in "
    "validation and test it is one that training has shown.",
)


def _drawings(epochs: float, others: tuple[str, ...]) -> Config:
    config = emoji(epochs, specs.control("learnable", value=0.07), specs.loss("infonce"))
    config.data.others = others
    return config


@partial(_row, remark="it is the baseline of emoji_three.")
def emoji_two(epochs: float) -> Config:
    """emoji_lt, InfoNCE of a drawing and its caption, τ learned."""
    return _drawings(epochs, ())


@partial(
    _row,
    settings="a loss for each two modalities, with a τ of its own (as in MoRE).",
)
def emoji_three(epochs: float) -> Config:
    """emoji_lt, InfoNCE of each two of a drawing, a second that half lack, and a caption."""
    return _drawings(epochs, ("another",))
