"""Files of runs read back: what is damaged is refused in one sentence that names the file."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from tauten.files import unpacked
from tauten.report.markup import all_printable
from tauten.report.runs import Array

Value = TypeVar("Value")

ALIASES, VALUES = 100, 100_000
"""Repetitions by name (``*name``) and values that a configuration may have, at most."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ValueError: the file is unreadable, holds something else, or grows beyond measure.
    """
    found = _parsed(path, "YAML", lambda text: yaml.load(text, _Loader))
    if not isinstance(found, dict):
        raise ValueError(f"{path} does not hold a mapping")
    _count(found, path)
    return dict(all_printable(found))


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        ValueError: the file is unreadable or is not JSON.
    """
    return all_printable(_parsed(path, "JSON", json.loads))


def read_lines(path: Path) -> list[Mapping[str, Any]]:
    """Return the mapping in each line of a file, none where there is no file.

    Raises:
        ValueError: a line is no JSON object.
    """
    if not path.exists():
        return []
    rows: list[Mapping[str, Any]] = []
    text: str = _parsed(path, "text", lambda text: text)
    for number, line in enumerate(filter(str.strip, text.splitlines()), start=1):
        row = _value(f"{path}, line {number},", "JSON", json.loads, line)
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}, is not a JSON object")
        rows.append(row)
    return rows


def read_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, Array]:
    """Return all arrays of an ``.npz`` file.

    Args:
        path: The file.
        names: Arrays that it must have.

    Raises:
        ValueError: the file is damaged, holds Python objects, or lacks one of them.
    """
    damaged = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = unpacked({name: stored[name] for name in stored.files})
    except (*damaged, AttributeError, NotImplementedError, MemoryError) as error:
        raise ValueError(f"{path} cannot be read as plain arrays: {_line(error)}") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return dict(all_printable(found))


class _Loader(yaml.SafeLoader):
    """Plain values, each of bounded size."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.aliases += self.check_event(yaml.AliasEvent)
        if self.aliases > ALIASES:
            raise yaml.YAMLError(f"more than {ALIASES} aliases")
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: Any) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.YAMLError("a merge of mappings (<<) is not read")


def _count(tree: Any, path: Path) -> None:
    """Refuse a tree of too many values, such as aliases of aliases make."""
    pending, seen = [tree], 0
    while pending:
        value = pending.pop()
        seen += 1
        if seen > VALUES:
            raise ValueError(f"{path} holds more than {VALUES:,} values")
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _parsed(path: Path, kind: str, parse: Callable[[str], Value]) -> Value:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {_line(error)}") from error
    return _value(str(path), kind, parse, text)


def _value(where: str, kind: str, parse: Callable[[str], Value], text: str) -> Value:
    try:
        return parse(text)
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{where} is not valid {kind}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
