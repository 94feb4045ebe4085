"""Checks of a configuration's options: numbers against their ranges, types, and choices."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from tauten.spec import Range, ranges_of
from tauten.training.options.option_types import described, fits


def check_values(config: Any) -> None:
    """Refuse numbers outside their range, unknown choices, and values of another type.

    Raises:
        ValueError: naming the option, its value and what it may be.
    """
    for name, hint, value, allowed in options(config):
        kinds = {hint, *typing.get_args(hint)}
        if typing.get_origin(hint) is typing.Literal:
            if value not in typing.get_args(hint):
                choices = ", ".join(map(str, typing.get_args(hint)))
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
        elif value is None and type(None) in kinds:
            continue
        elif allowed is not None:
            for number in value if isinstance(value, (list, tuple)) else (value,):
                check(name, number, allowed, whole=float not in kinds)
        elif not fits(value, hint):
            raise ValueError(f"{name} must be of type {described(hint)}, got {value!r}")


def check(name: str, value: Any, allowed: Range, *, whole: bool = False) -> None:
    """Refuse a number outside a range.

    Args:
        name: of the option, for the message.
        value: to check.
        allowed: its range.
        whole: whether it must be an integer.

    Raises:
        ValueError: with the name, the value and the range.
    """
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or value not in allowed:
        kind = "a whole number " if whole and not isinstance(value, int) else ""
        raise ValueError(f"{name} must be {kind}{allowed}, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite and {allowed}, got {value!r}")


def check_option(kind: type, name: str, value: Any) -> None:
    """Refuse a whole number that this option of a section would not take.

    Args:
        kind: the section, such as ``EvaluationConfig``.
        name: of its option, and in the message.
        value: to check.

    Raises:
        ValueError: with the name, the value and the range.
    """
    check(name, value, ranges_of(kind)[name], whole=True)


def check_rules(*rules: tuple[bool, str]) -> None:
    """Refuse what breaks a rule.

    Args:
        rules: whether each is broken, and what is said then.

    Raises:
        ValueError: the message of the first that is broken.
    """
    for broken, message in rules:
        if broken:
            raise ValueError(message)


def check_needed(options: Mapping[str, tuple[Any, Any]], message: str) -> None:
    """Refuse options that are not as another one needs them.

    Args:
        options: by name, what was given and what is needed.
        message: with two places, for ``NAME=NEEDED`` and for what was given.

    Raises:
        ValueError: the message, of the first that differs.
    """
    for name, (value, needed) in options.items():
        if value != needed:
            if needed == ():
                raise ValueError(message.format(f"no {name}", ", ".join(value)))
            given = f"{name}={value}" if isinstance(value, bool) else value
            raise ValueError(message.format(f"{name}={needed}", given))


def options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, Range | None]]:
    """Yield the name, the type, the value and the range of each option of a configuration."""
    kind = type(config)
    hints, ranges = typing.get_type_hints(kind), ranges_of(kind)
    for option in fields(kind):
        name, hint, value = option.name, hints[option.name], getattr(config, option.name)
        if is_dataclass(hint):
            if not isinstance(value, typing.cast(type, hint)):
                raise ValueError(f"{prefix}{name} must be a {described(hint)}, got {value!r}")
            yield from options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint, value, ranges.get(name)
