"""Names of emoji that differ in one attribute: who, colour, size, direction or state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: words that may take each other's place in a name, one group for each attribute
ATTRIBUTES: tuple[frozenset[str], ...] = tuple(
    frozenset(words.split())
    for words in (
        "man woman person boy girl child baby",
        "men women people",
        "man’s woman’s",
        "white black red orange yellow green blue purple brown pink grey",
        "small medium large medium-small",
        "left right up down leftwards rightwards upwards downwards",
        "open closed",
        "raised lowered",
        "manual motorized",
        "bald blond curly white red",
        "full new crescent",
        "1st 2nd 3rd",
        "first last",
    )
)
_WORD = re.compile(r"[\w’'-]+")


def one_apart(captions: Iterable[str], known: Iterable[str]) -> list[list[str]]:
    """Return for each caption the known ones that differ from it in one attribute.

    Such a caption has another word of :data:`ATTRIBUTES` at one place and is equal elsewhere: "man
    surfing" has "woman surfing" and "person surfing".

    Args:
        captions: names.
        known: names that may be returned.

    Returns:
        For each caption a sorted list, empty where no known one is so near.
    """
    existing = {tuple(_WORD.findall(text.lower())): text for text in sorted(known)}
    return [_of_one(_WORD.findall(text.lower()), existing) for text in captions]


def _of_one(words: Sequence[str], existing: dict[tuple[str, ...], str]) -> list[str]:
    near = set()
    for place, word in enumerate(words):
        for group in ATTRIBUTES:
            for other in group - {word} if word in group else ():
                changed = (*words[:place], other, *words[place + 1 :])
                if changed in existing:
                    near.add(existing[changed])
    return sorted(near)
