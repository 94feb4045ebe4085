"""Arguments of controls, losses and tables, refused by name where they cannot be used."""

from __future__ import annotations

import difflib
import functools
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeVar, get_type_hints

Value = TypeVar("Value")

#: the largest whole number that is taken for a size or a step
MOST = 2**62

#: modules whose lines no warning points to
_INSIDE = ("tauten.", "torch.")

#: how near a name must be to be offered in the place of another
_NEAR = 0.4


def finite(name: str, value: Any) -> float:
    """Return the value as a float, refused when it is not a finite number."""
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise ValueError(f"{name} must be a finite number, got one beyond 1e308") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return number


def whole(name: str, value: Any, least: int) -> int:
    """Return the value as an int, refused when it is not whole or below the least."""
    bound = "" if least == -MOST else f", at least {least}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number{bound}, got {value!r}")
    number = int(value)
    if not least <= number <= MOST:
        shown = str(number) if abs(number) < MOST else "one beyond 4.6e18"
        raise ValueError(f"{name} must be a whole number{bound}, got {shown}")
    return number


def flag(name: str, value: Any) -> bool:
    """Return the value, refused when it is not True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return value


def few(values: Sequence[Any]) -> str:
    """Return the first five values as text, with dots where there are more."""
    return ", ".join(str(value) for value in values[:5]) + (", ..." if len(values) > 5 else "")


def two(name: str, value: Any) -> tuple[Any, Any]:
    """Return two values, refused when they are not a pair."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name} must be two numbers, got {value!r}")
    return value[0], value[1]


def warn(message: str, category: type[Warning]) -> None:
    """Warn at the line outside tauten, and outside torch's modules, that led here."""
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_INSIDE):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)


def names_options(cls: type, also: Mapping[str, str], passed: Sequence[str] = ()) -> None:
    """Let a class refuse options that it does not have with the nearest name that it has.

    Its signature then lists the keywords behind ``**options`` too.

    Args:
        cls: that gives an ``__init__`` of its own.
        also: other people's names of options.
        passed: names that the class refuses itself, with a reason.
    """
    build = cls.__dict__.get("__init__")
    if build is None:
        return
    signature, known = _signature(build)
    if known is None:
        return

    @functools.wraps(build)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        for name in options:
            if name not in known and name not in passed:
                raise TypeError(_unknown(cls.__name__, name, known, also))
        build(self, *args, **options)

    checked.__signature__ = signature  # type: ignore[attr-defined]
    type.__setattr__(cls, "__init__", checked)


def _unknown(owner: str, name: str, known: list[str], also: Mapping[str, str]) -> str:
    near = [also[name]] if also.get(name) in known else []
    near = near or difflib.get_close_matches(name, known, 1, _NEAR)
    hint = f"did you mean {near[0]}=? " if near else ""
    return f"{owner} has no option {name}=: {hint}It has {', '.join(known)}"


def _signature(build: Callable[..., Any]) -> tuple[inspect.Signature, list[str] | None]:
    """Return the signature with all keywords, and their names; None if they cannot be known."""
    signature = inspect.signature(build)
    parameters = list(signature.parameters.values())
    rest = [p for p in parameters if p.kind is p.VAR_KEYWORD]
    if rest:
        options = _typed(rest[0].annotation, getattr(build, "__globals__", {}))
        if options is None:
            return signature, None
        parameters.remove(rest[0])
        given = {p.name for p in parameters}
        parameters += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=...)
            for name in get_type_hints(options)
            if name not in given
        ]
    known = [p.name for p in parameters[1:] if p.kind is not p.VAR_POSITIONAL]
    return signature.replace(parameters=parameters), known


def _typed(annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return the TypedDict of ``**options: Unpack[...]``, or None."""
    text = str(annotation)
    if not text.startswith("Unpack["):
        return None
    return names.get(text.removeprefix("Unpack[").removesuffix("]"))
