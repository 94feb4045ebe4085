"""Experiments of several trainings, by the name that ``tauten train`` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path


@dataclass(frozen=True)
class Experiment:
    """Several trainings under one name.

    Attributes:
        line: about it, for listings.
        module: module of the function of this experiment, imported when it is run.
        function: its name; called with ``output``, it trains and returns what it wrote.
    """

    line: str
    module: str
    function: str

    def load(self) -> Callable[..., Path]:
        """Return the function."""
        function: Callable[..., Path] = getattr(import_module(self.module), self.function)
        return function


EXPERIMENTS = {
    "demo": Experiment(
        "Train the variants of a panel with each seed, print one table, write one report.",
        "tauten.recipes.demo",
        "run_demo",
    ),
    "search": Experiment(
        "Search settings for emoji_lt on the validation split; started again, it goes on.",
        "tauten.comparison.search",
        "search",
    ),
}
