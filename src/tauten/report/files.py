"""Files of runs read for a page: errors name the file, and texts have no control characters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tauten import files
from tauten.report.markup import all_printable
from tauten.report.runs import Array

Value = TypeVar("Value")


def required(folder: Path, name: str) -> Path:
    """Return the path of a file that a finished run has.

    Raises:
        ValueError: it is not there.
    """
    if not (folder / name).exists():
        raise ValueError(f"{folder} has no {name}: is the run finished?")
    return folder / name


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ValueError: the file is unreadable, holds something else, or refers to parts of itself.
    """
    tree = _read(files.read_yaml, path)
    if not isinstance(tree, dict):
        raise ValueError(f"{path} does not hold a mapping")
    return dict(all_printable(tree))


def read_results(path: Path) -> Any:
    """Return what ``results.json`` of a run holds.

    Raises:
        ValueError: it, or a file that it seals, is unreadable or not what was written.
    """
    return all_printable(_read(files.read_sealed, path))


def read_lines(path: Path) -> list[Mapping[str, Any]]:
    """Return the mapping in each line of a file, none where there is no file.

    Raises:
        ValueError: a line is no JSON object.
    """
    return list(_read(files.read_lines, path)) if path.exists() else []


def read_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, Array]:
    """Return all arrays of an ``.npz`` file.

    Args:
        path: The file.
        names: Arrays that it must have.

    Raises:
        ValueError: the file is damaged, holds Python objects, or lacks one of them.
    """
    return dict(all_printable(_read(files.read_arrays, path, names)))


def _read(reader: Callable[..., Value], path: Path, *more: Any) -> Value:
    try:
        return reader(path, *more)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {files.error_line(error)}") from error
