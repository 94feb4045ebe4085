"""Paths that begin with ``~``."""

from __future__ import annotations

from pathlib import Path


def expanded(path: str | Path) -> Path:
    """Return the path with the home folder in the place of ``~``.

    Raises:
        ValueError: there is no such user, or no home folder is known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: no home folder is known for it: write the path out") from error
