"""Values that an option of each type takes."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of an option's type.

    A whole number is a number, a list is a tuple, and a text is a path; True is no number.
    """
    origin, options = get_origin(hint), get_args(hint)
    if hasattr(hint, "__metadata__"):
        return fits(value, options[0])
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in options)
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in options)
    if origin is tuple:
        every = options[0] if options[-1] is Ellipsis else None
        return (
            isinstance(value, (list, tuple))
            and (every is not None or len(value) == len(options))
            and all(fits(item, every or options[place]) for place, item in enumerate(value))
        )
    if hint in (int, float):
        numbers = (int, float) if hint is float else (int,)
        return isinstance(value, numbers) and not isinstance(value, bool)
    if hint is Path:
        return isinstance(value, (str, Path))
    return isinstance(value, hint) if isinstance(hint, type) else True


def described(hint: Any) -> str:
    """Return an option's type in words."""
    if get_origin(hint) is tuple:
        return "a list, such as [1, 2]"
    if get_origin(hint) is not None:
        return str(hint).replace("typing.", "")
    return str(getattr(hint, "__name__", hint))
