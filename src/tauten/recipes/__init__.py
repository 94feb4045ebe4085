"""Experiments by name: :class:`Recipe` has what is known of each, and returns its configuration."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from tauten.extras import need

need("tauten.recipes", "numpy", "transformers", "accelerate", "datasets", "yaml")

from tauten.recipes import captioned, cc3m, emoji, epic_kitchens, pretrained, unimodal, video
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
from tauten.recipes.search import search
from tauten.recipes.video import emoji_video_margin_constant, emoji_video_margin_mmts

#: recipes for one training
RECIPES = recipes_of(emoji, video, pretrained, cc3m, epic_kitchens, captioned, unimodal, own)

#: recipes of several trainings: called with output, they run them
EXPERIMENTS: dict[str, Callable[..., Path]] = {"demo": run_demo, "search": search}


def get(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        ValueError: there is none, with the names closest to it.
    """
    if name not in RECIPES:
        close = get_close_matches(name, [*RECIPES, *EXPERIMENTS], n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"no recipe {name!r}; {meant}'tauten recipes' lists all")
    return RECIPES[name]


def describe() -> dict[str, str]:
    """Return one line on each recipe and experiment."""
    experiments = {
        name: (run.__doc__ or "").strip().splitlines()[0] for name, run in EXPERIMENTS.items()
    }
    return {name: recipe.line for name, recipe in RECIPES.items()} | experiments


__all__ = [
    "EPOCHS",
    "EXPERIMENTS",
    "FOUND",
    "LEARNED",
    "PUBLISHED",
    "RECIPES",
    "Learned",
    "Recipe",
    "Schedule",
    "demo",
    "describe",
    "emoji_fastclip",
    "emoji_infonce_constant",
    "emoji_infonce_mmts",
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
    "search",
    "table",
]
