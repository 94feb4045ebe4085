"""Facts stated by a recipe's docstring, for listings and tables.

A docstring has one line on what is trained and, where there is one, a paragraph for each of

    Command: how to run it.
    Data: what to get.
    Published: the figures, and who states them.
    Settings: those that are published.
    Our choice: what is not published, or differs.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

from tauten.training import Config

_PARTS = ("Command", "Data", "Published", "Settings", "Our choice")
_COMMAND = re.compile(r"``(tauten train [^`]*)``")
_INLINE = re.compile(r"published (.*)")


@dataclass(frozen=True)
class Facts:
    """Facts stated by a recipe's docstring.

    Attributes:
        name: of the recipe.
        line: the first line.
        command: how to run it, "" where it says none.
        data: the name of its data set.
        published: the figures, with their source; "" where there are none.
    """

    name: str
    line: str
    command: str
    data: str
    published: str

    @property
    def figures(self) -> str:
        """The published figures without their source."""
        return self.published.split(" (")[0].rstrip(".") or "none"


def facts(recipe: Callable[..., Config]) -> Facts:
    """Read a recipe's docstring; see the module's.

    Where it has no paragraphs, command and figures are looked for in its text: ``tauten train ...``
    in double backticks, and "published ..." in the first line.
    """
    text = inspect.getdoc(recipe) or ""
    line, found = text.partition("\n")[0], parts(text)
    inline, command = _INLINE.search(line), _COMMAND.search(" ".join(text.split()))
    published = found.get("Published") or (inline.group(1) if inline else "")
    source = recipe().data.source
    return Facts(
        name=recipe.__name__,
        line=line,
        command=found.get("Command") or (command.group(1) if command else ""),
        data=source.partition(":")[0] or "your own",
        published="" if published.startswith(("none", "figure known")) else published,
    )


def parts(text: str) -> dict[str, str]:
    """Return the paragraphs of a docstring that begin with a known name, each as one line."""
    found: dict[str, str] = {}
    for paragraph in text.split("\n\n"):
        name, colon, content = paragraph.partition(":")
        if colon and name.strip() in _PARTS:
            found[name.strip()] = " ".join(content.split())
    return found


def table(recipes: dict[str, Callable[..., Config]]) -> str:
    """Return recipes with published figures as a table in Markdown."""
    rows = [facts(recipe) for recipe in recipes.values()]
    lines = ["| recipe | data | published |", "| --- | --- | --- |"]
    lines += [f"| `{row.name}` | `{row.data}` | {row.published} |" for row in rows if row.published]
    return "\n".join(lines)
