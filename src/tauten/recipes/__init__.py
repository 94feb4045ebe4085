"""Experiments as Python functions that return configurations.

``RECIPES`` maps the name that ``tauten train`` takes to its function; ``describe`` gives the line
that ``tauten recipes`` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tauten.extras import need

need("tauten.recipes", "numpy", "transformers", "accelerate", "datasets", "yaml")

from tauten.recipes.captioned import CAPTIONED
from tauten.recipes.cc3m import CC3M
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
from tauten.recipes.epic_kitchens import EPIC_KITCHENS
from tauten.recipes.facts import Facts, facts, table
from tauten.recipes.local import local, runlocal
from tauten.recipes.pairs import pairs
from tauten.recipes.pretrained import emoji_pretrained
from tauten.recipes.search import search
from tauten.recipes.unimodal import UNIMODAL
from tauten.recipes.video import emoji_video_margin_constant, emoji_video_margin_mmts
from tauten.training import Config

#: recipes for one training: called with output, epochs and seed, they return its configuration
RECIPES: dict[str, Callable[..., Config]] = {
    recipe.__name__: recipe
    for recipe in (
        emoji_infonce_constant,
        emoji_infonce_mmts,
        emoji_maxmargin_constant,
        emoji_maxmargin_mmts,
        emoji_sogclr,
        emoji_isogclr,
        emoji_tempnet,
        emoji_fastclip,
        emoji_video_margin_constant,
        emoji_video_margin_mmts,
        emoji_pretrained,
        *CC3M,
        *EPIC_KITCHENS,
        *CAPTIONED,
        *UNIMODAL,
        pairs,
    )
}

#: recipes of several trainings: called with output, they run them
EXPERIMENTS: dict[str, Callable[..., Path]] = {"demo": run_demo, "search": search}


def get(name: str) -> Callable[..., Config]:
    """The recipe of this name.

    Raises:
        ValueError: there is none, with the names closest to it.
    """
    if name not in RECIPES:
        close = get_close_matches(name, [*RECIPES, *EXPERIMENTS], n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"no recipe {name!r}; {meant}'tauten recipes' lists all")
    return RECIPES[name]


def describe() -> dict[str, str]:
    """One line on each recipe and experiment."""
    every: dict[str, Any] = {**RECIPES, **EXPERIMENTS}
    return {name: (recipe.__doc__ or "").strip().splitlines()[0] for name, recipe in every.items()}


__all__ = [
    "CAPTIONED",
    "CC3M",
    "EPIC_KITCHENS",
    "EPOCHS",
    "EXPERIMENTS",
    "FOUND",
    "LEARNED",
    "PUBLISHED",
    "RECIPES",
    "UNIMODAL",
    "Facts",
    "Learned",
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
    "facts",
    "get",
    "local",
    "pairs",
    "run_demo",
    "runlocal",
    "search",
    "table",
]
