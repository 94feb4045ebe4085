"""Experiments by name: :class:`Recipe` has what is known of each, and returns its configuration."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from tauten.extras import need

need("tauten.recipes", "numpy", "transformers", "accelerate", "datasets", "yaml")

from tauten.recipes import (
    captioned,
    cc3m,
    clip,
    code_search,
    compositional,
    emoji,
    epic_kitchens,
    modalities,
    pretrained,
    recommendation,
    sentences,
    unimodal,
    video,
)
from tauten.recipes import pairs as own
from tauten.recipes.demo import demo, run_demo
from tauten.recipes.emoji import (
    EPOCHS,
    FOUND,
    LEARNED,
    PUBLISHED,
    Learned,
    Schedule,
    emoji_fastclip,
    emoji_infonce_constant,
    emoji_infonce_mmts,
    emoji_infonce_mmts_wide,
    emoji_infonce_reversed,
    emoji_isogclr,
    emoji_maxmargin_constant,
    emoji_maxmargin_mmts,
    emoji_sogclr,
    emoji_tempnet,
)
from tauten.recipes.local import runlocal
from tauten.recipes.pairs import pairs
from tauten.recipes.pretrained import emoji_pretrained
from tauten.recipes.recipe import Recipe, recipes_of, table
from tauten.recipes.video import emoji_video_margin_constant, emoji_video_margin_mmts

#: recipes for one training
RECIPES = recipes_of(
    emoji,
    clip,
    compositional,
    code_search,
    modalities,
    recommendation,
    sentences,
    video,
    pretrained,
    cc3m,
    epic_kitchens,
    captioned,
    unimodal,
    own,
)


def get(name: str, others: Iterable[str] = ()) -> Recipe:
    """Return the recipe of this name.

    Args:
        name: name of a recipe.
        others: names of other things that may be meant.

    Raises:
        ValueError: there is none, with the names closest to it.
    """
    if name not in RECIPES:
        close = get_close_matches(name, [*RECIPES, *others], n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"no recipe {name!r}; {meant}'tauten recipes' lists all")
    return RECIPES[name]


__all__ = [
    "EPOCHS",
    "FOUND",
    "LEARNED",
    "PUBLISHED",
    "RECIPES",
    "Learned",
    "Recipe",
    "Schedule",
    "demo",
    "emoji_fastclip",
    "emoji_infonce_constant",
    "emoji_infonce_mmts",
    "emoji_infonce_mmts_wide",
    "emoji_infonce_reversed",
    "emoji_isogclr",
    "emoji_maxmargin_constant",
    "emoji_maxmargin_mmts",
    "emoji_pretrained",
    "emoji_sogclr",
    "emoji_tempnet",
    "emoji_video_margin_constant",
    "emoji_video_margin_mmts",
    "get",
    "pairs",
    "recipes_of",
    "run_demo",
    "runlocal",
    "table",
]
