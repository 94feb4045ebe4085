"""Checks of what callers pass in, each a ``ValueError`` that names the argument."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor


def whole(value: Any, name: str, least: int | None = None) -> int:
    """Return an option that must be a whole number, at least ``least``.

    Raises:
        ValueError: a bool, a fraction, a text, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return int(value)


def positive(value: Any, name: str) -> float:
    """Return an option that must be a finite number above 0.

    Raises:
        ValueError: anything else.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{name} must be positive and finite, not {value!r}")
    return float(value)


def whole_numbers(values: Any, name: str, most: int | None = None) -> list[int]:
    """Return one or more whole numbers from 1 on, such as the Ks of hit@K.

    Raises:
        ValueError: none, a bool, a fraction, NaN, or one below 1 or above ``most``.
    """
    listed = values.tolist() if isinstance(values, Tensor) else values
    if isinstance(listed, str) or not hasattr(listed, "__iter__"):
        raise ValueError(f"{name} must be a sequence of positive integers, not {values!r}")
    listed = list(listed)
    right = all(isinstance(k, Integral) and not isinstance(k, bool) for k in listed)
    if not listed or not right or min(listed) < 1 or (most is not None and max(listed) > most):
        limit = "" if most is None else f" up to {most}"
        raise ValueError(f"{name} must be positive integers{limit}, at least one, not {listed}")
    return [int(k) for k in listed]


def checked_directions(
    values: Any, known: Sequence[str], name: str = "directions"
) -> tuple[str, ...]:
    """Return ``directions=`` as a tuple.

    Args:
        values: some of the known ones.
        known: the directions that there are.
        name: the option, as callers know it.

    Raises:
        ValueError: a text, nothing that can be gone through, or an unknown direction.
    """
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        wanted = (values if values in known else known[0],)
        raise ValueError(f"{name} must be a tuple, such as {wanted!r}, got {values!r}")
    listed = tuple(values)
    for direction in listed:
        if direction not in known:
            raise ValueError(f"unknown direction {direction!r}: use one of {', '.join(known)}")
    return listed


def numbers(values: Any, name: str) -> Tensor:
    """Return real numbers as a tensor on the CPU.

    Raises:
        ValueError: what is no tensor of real numbers.
    """
    read = tensor(values, name).cpu()
    if read.is_complex():
        raise ValueError(f"{name} must hold real numbers, not {read.dtype}")
    return read


def integers(values: Any, name: str) -> Tensor:
    """Return whole numbers as a long tensor on the CPU.

    Raises:
        ValueError: what is no tensor, or holds bools or fractions.
    """
    read = numbers(values, name)
    if read.dtype == torch.bool or (read.is_floating_point() and read.numel()):
        raise ValueError(f"{name} must hold integers, not {read.dtype}")
    return read.long()


def tensor(values: Any, name: str) -> Tensor:
    """Return values as a detached tensor.

    Raises:
        ValueError: no numbers, or rows of different lengths.
    """
    if values is None or isinstance(values, str):
        raise ValueError(f"{name} must be numbers, not {values!r}")
    try:
        return torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} must be a tensor or an array of numbers: {error}") from error


def members(names: Sequence[str], group: str) -> Tensor:
    """Return (q,) long, the positions of the names that are the group's."""
    return torch.tensor([i for i, name in enumerate(names) if name == group], dtype=torch.long)


def group_names(groups: Sequence[str], name: str, what: str, expected: int | None = None) -> None:
    """Check names of groups, one for each of ``expected``.

    Raises:
        ValueError: another number of names, or one that cannot be part of a key.
    """
    if isinstance(groups, str) or not hasattr(groups, "__len__"):
        raise ValueError(f"{name} must be a list with one name per {what}, not {groups!r}")
    if expected is not None and len(groups) != expected:
        raise ValueError(
            f"{name} has {len(groups)} names for {expected} {what}: give one name per {what}"
        )
    for group in groups:
        if not isinstance(group, str) or not group or "/" in group or group in ("low", "high"):
            raise ValueError(
                f"{name} contains {group!r}: a group name must be a non-empty string without "
                '"/" and other than "low", "high"'
            )
