"""Files of a data set, wherever its users keep them below the root."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tauten.structure.tables import parse_json, read_bytes


def find(root: Path, names: Sequence[str]) -> Path:
    """Return the first of these files that is there, also with .gz behind its name.

    Args:
        root: folder of the data set.
        names: paths below it, the usual one first.

    Raises:
        FileNotFoundError: none is there.
    """
    for name in names:
        for candidate in (root / name, root / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    tried = " or ".join(names)
    raise FileNotFoundError(f"{root} has no {tried}")


def media_folder(root: Path, names: Sequence[str], probe: Sequence[str]) -> Path:
    """Return the folder below the root that holds the media; where none does, the first of them.

    Args:
        root: folder of the data set.
        names: where they may be, the usual place first; "." for the root.
        probe: a few paths that must be in it.
    """
    for name in names:
        if any((root / name / path).exists() for path in probe):
            return root / name
    return root / names[0]


def read_json(path: Path, keys: Sequence[str] = ()) -> Any:
    """Parse a json file, perhaps gzipped.

    Args:
        path: the file.
        keys: what its object must have.

    Raises:
        ValueError: it does not parse, or lacks a key, with its name.
    """
    value = parse_json(read_bytes(path), str(path))
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing:
        raise ValueError(f"{path} has no {', '.join(map(repr, missing))}: is it another file?")
    return value
