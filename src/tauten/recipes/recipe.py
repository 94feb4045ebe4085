"""An experiment as data: what is known of it, and the function that configures its training.

A module of this package writes a recipe as a function of the number of epochs, whose name is the
recipe's and whose docstring is its line in listings, under ``@partial(Recipe, ...)``::

    @partial(Recipe, epochs=30.0, published="COCO IR@1 21.3", source="README of MM-TS")
    def cc3m_clip(epochs: float) -> Config:
        \"\"\"CC3M to zero-shot retrieval, CLIP with a constant τ = 0.01.\"\"\"
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tauten.training import Config


@dataclass(frozen=True)
class Recipe:
    """A training that has a name; called, it returns the configuration.

    Attributes:
        build: the function of the recipe's name, from a number of epochs to a configuration.
        epochs: epochs of the training, unless told otherwise.
        options: options of ``tauten train NAME`` that its data need.
        then: options of ``tauten evaluate`` afterwards, for a further test set.
        data: what to get.
        published: the figures; "" where there are none.
        source: who states them.
        remark: what to know about the figures, or why there are none.
        settings: those that are published, and where.
        choice: what is not published, or differs.
    """

    build: Callable[[float], Config]
    epochs: float
    options: str = ""
    then: str = ""
    data: str = ""
    published: str = ""
    source: str = ""
    remark: str = ""
    settings: str = ""
    choice: str = ""

    def __call__(
        self, output: Path | None = None, epochs: float | None = None, seed: int = 0
    ) -> Config:
        """Return the configuration of a run of this recipe.

        Args:
            output: folder of the run; by default ``runs/NAME``.
            epochs: passes over the training data; by default the recipe's.
            seed: seed of the run.
        """
        config = self.build(self.epochs if epochs is None else epochs)
        config.name, config.seed = self.name, seed
        config.output = output or Path("runs") / self.name
        return config

    @property
    def name(self) -> str:
        """Return the name, as typed after ``tauten train``."""
        return self.build.__name__

    @property
    def line(self) -> str:
        """Return the recipe in one line."""
        return inspect.getdoc(self.build) or ""

    @property
    def dataset(self) -> str:
        """Return the name of the data set, "" where it is the user's own."""
        return self().data.source.partition(":")[0]

    @property
    def command(self) -> str:
        """Return how to run it, "" where there is nothing to know."""
        if not self.options and not self.then:
            return ""
        train = f"tauten train {self.name} {self.options}".rstrip()
        return f"{train}, then tauten evaluate runs/{self.name} {self.then}" if self.then else train

    def figures(self) -> str:
        """Return the published figures with their source and what to know about them."""
        if not self.published:
            return f"none; {self.remark}" if self.remark else ""
        return f"{self.published} ({self.source}). {self.remark}".removesuffix(" ")

    def text(self) -> str:
        """Return all that is known, in paragraphs."""
        parts = {
            "Command": self.command,
            "Data": self.data,
            "Published": self.figures(),
            "Settings": self.settings,
            "Our choice": self.choice,
        }
        return "\n\n".join(
            [self.line, *(f"{name}: {text}" for name, text in parts.items() if text)]
        )


def recipes_of(*modules: ModuleType) -> dict[str, Recipe]:
    """Return the recipes that these modules define, by name, in the order of definition."""
    values = [value for module in modules for value in vars(module).values()]
    return {value.name: value for value in values if isinstance(value, Recipe)}


def table(recipes: Mapping[str, Recipe]) -> str:
    """Return the recipes with published figures as a table in Markdown."""
    lines = ["| recipe | data | published |", "| --- | --- | --- |"]
    lines += [
        f"| `{name}` | `{recipe.dataset}` | {recipe.figures()} |"
        for name, recipe in recipes.items()
        if recipe.published
    ]
    return "\n".join(lines)
