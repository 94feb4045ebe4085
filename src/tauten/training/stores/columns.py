"""Columns that a configuration names and its data must have."""

from __future__ import annotations

from collections.abc import Sequence

from tauten.structure.cells import some
from tauten.training.options.config import DataConfig


def check_columns(config: DataConfig, columns: Sequence[str], place: str) -> None:
    """Refuse names of columns that the data do not have.

    Args:
        config: of the data.
        columns: that there are.
        place: of the data, for the message.

    Raises:
        ValueError: a name that is not among them, with those that are.
    """
    there = f"in {place}; columns: {some(dict.fromkeys(columns), 20)}"
    if config.label is not None and config.label not in columns:
        raise ValueError(f"no label column {config.label!r} {there}")
    if config.negatives is not None and config.negatives not in columns:
        raise ValueError(f"no column data.negatives={config.negatives} {there}")
    lacking = [name for name in config.others if name not in columns]
    if lacking:
        raise ValueError(f"no column {lacking[0]!r} of data.others {there}")
