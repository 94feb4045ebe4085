"""Cells of tables: which are missing, which texts cannot be used, long lists made short, counts in
words."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

#: characters of the longest caption that is used
LONGEST = 20_000


#: characters without a width that ``str.strip`` leaves
_UNSEEN = dict.fromkeys(map(ord, "\0\u200b\u2060\ufeff"))


def missing(value: Any) -> bool:
    """Return whether a cell holds nothing: None, NaN, or a text of which nothing is seen."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.translate(_UNSEEN).strip())


def text_problem(text: str, longest: int | None = LONGEST) -> str | None:
    """Say why a text cannot be used, the kind of problem before a colon; None if it can.

    Args:
        text: the text.
        longest: characters it may have; None for any number.
    """
    if longest is not None and len(text) > longest:
        return f"caption too long: {len(text):,} characters, at most {longest:,} are used"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start].encode("unicode_escape").decode()
        return f"half a character: {half} at position {error.start}, as of an emoji cut in two"
    return None


def whole_text(text: str) -> str:
    """Return the text with U+FFFD for each half of a character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def texts_of(cell: str | Iterable[str] | None) -> list[str]:
    """Return the texts of a cell, which holds one, several or none."""
    return [cell] if isinstance(cell, str) else list(cell or ())


def some(names: Iterable[Any], most: int = 5) -> str:
    """Join the first names, each cut to 80 characters, and say how many more there are."""
    texts = [short(str(name), 80) for name in names]
    more = len(texts) - most
    return ", ".join(texts[:most]) + (f" and {more:,} more" if more > 0 else "")


def short(text: str, most: int = 400) -> str:
    """Return the text, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def counted(number: int | str, one: str, more: str = "") -> str:
    """Return a number with the word for that many, such as "1 step" and "2 steps"."""
    return f"{number} {one if str(number) == '1' else more or f'{one}s'}"
