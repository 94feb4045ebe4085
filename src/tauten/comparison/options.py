"""Translation of the arguments of ``tauten compare`` to a grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import yaml

from tauten.comparison.synthetic import SyntheticConfig

_SYNTHETIC = "synthetic."


def settings(words: Sequence[str]) -> tuple[dict[str, Any], SyntheticConfig]:
    """Parse ``NAME=VALUE`` words as settings of the training configuration or synthetic pairs.

    Args:
        words: such as ``optim.epochs=10`` or ``synthetic.noise=0.7``.

    Raises:
        ValueError: a word without "=", a value that does not parse, or a name of synthetic pairs
            that there is not.
    """
    training: dict[str, Any] = {}
    pairs: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"--set takes NAME=VALUE, such as optim.epochs=10, got {word!r}")
        target = pairs if name.startswith(_SYNTHETIC) else training
        try:
            target[name.removeprefix(_SYNTHETIC)] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(
                f"--set {word}: the value is not readable: give a number, a word, or a list as "
                "[1, 2]"
            ) from error
    known = [field.name for field in dataclasses.fields(SyntheticConfig)]
    unknown = [name for name in pairs if name not in known]
    if unknown:
        raise ValueError(
            f"synthetic pairs have no {', '.join(unknown)}; there are {', '.join(known)}"
        )
    for name, value in pairs.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"synthetic.{name} must be a number, got {value!r}")
    return training, SyntheticConfig(**pairs)


def seeds(text: str) -> tuple[int, ...]:
    """Parse a number of seeds, or the seeds with commas between them.

    Raises:
        ValueError: neither.
    """
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise ValueError(f"--seeds takes a number of seeds, or seeds as 3,4,5, got {text!r}")
    numbers = tuple(int(part) for part in parts)
    return numbers if len(numbers) > 1 else tuple(range(numbers[0]))
