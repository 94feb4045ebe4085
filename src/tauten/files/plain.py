"""Readers of files that may be damaged or harmful: one error, in one line, names the file."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tauten.files.texts import unpacked

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

_SHOWN = 160


def error_line(error: BaseException) -> str:
    """Return the first line of an error's message, and its kind where there is none."""
    text = next(iter(str(error).strip().splitlines()), "")
    return (text[:_SHOWN] + "..." if len(text) > _SHOWN else text) or type(error).__name__


def read_text(path: Path) -> str:
    """Read a file of UTF-8.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: it is no UTF-8 text ({error_line(error)})") from error


def read_json(path: Path) -> Any:
    """Read a file of JSON.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or nested too deeply.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str | bytes, where: Path | str) -> Any:
    """Return what a text of JSON holds.

    Args:
        text: to parse.
        where: it is from, for the error.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply to be read as JSON") from error
    except ValueError as error:
        raise ValueError(f"{where} is not valid JSON: {error_line(error)}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a file of JSON lines; a last line that was cut is left out.

    Raises:
        OSError: it cannot be read.
        ValueError: a line before the last is no JSON, or a line is no object.
    """
    lines = [line for line in read_text(path).splitlines() if line.strip()]
    records: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line, f"{path}, line {number},")
        except ValueError:
            if number == len(lines):
                break
            raise
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}, is damaged: it holds no object")
        records.append(row)
    return records


def read_yaml(path: Path) -> Any:
    """Read a file of YAML.

    Raises:
        OSError: it cannot be read.
        ValueError: see :func:`parse_yaml`.
    """
    return parse_yaml(read_text(path), path)


def parse_yaml(text: str, where: Path | str) -> Any:
    """Return the plain values that a text of YAML holds.

    Args:
        text: to parse.
        where: it is from, for the error.

    Raises:
        ValueError: it is no YAML, nested too deeply, or it refers to parts of itself, by which a
            short text can stand for an endless one.
    """
    import yaml

    try:
        return copy.deepcopy(_parsed(text))
    except _AliasError as error:
        raise ValueError(
            f"{where} refers to a part of itself (*{error}): write it out instead"
        ) from None
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply to be read as YAML") from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise ValueError(f"{where} is not valid YAML: {line[:_SHOWN]}") from error


class _AliasError(Exception):
    """The name of a part that a text of YAML refers to."""


@functools.lru_cache(maxsize=4)
def _parsed(text: str) -> Any:
    """Parse a text without references; one that is read again is not parsed again."""
    import yaml

    class Plain(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event: yaml.AliasEvent = self.peek_event()  # type: ignore[no-untyped-call]
                raise _AliasError(event.anchor)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                if key.value in names:
                    raise yaml.constructor.ConstructorError(
                        problem=f"{key.value!r} stands there twice: keep one of them",
                        problem_mark=key.start_mark,
                    )
                names.add(key.value)
            return super().construct_mapping(node, deep)

    return yaml.load(text, Loader=Plain)


@contextlib.contextmanager
def opened_arrays(path: Path | str) -> Iterator[Any]:
    """Open an .npz file for its arrays by name, and close it, be it damaged or not.

    Raises:
        OSError: it cannot be opened.
        EOFError, ValueError, zipfile.BadZipFile: it is empty, something else or damaged.
    """
    import numpy as np

    # numpy leaves open what it opened by name and cannot read
    with Path(path).open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        if not isinstance(stored, np.lib.npyio.NpzFile):
            raise ValueError("it is one array, no .npz file")
        with stored:
            yield stored


def read_arrays(
    path: Path, names: Sequence[str] = (), only: Sequence[str] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of an .npz file.

    Args:
        path: path of the file; texts in it are an array of objects, or as numpy stores them.
        names: that it must have.
        only: arrays to read, of those there are; by default all.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, holds something else, or lacks a name.
    """
    try:
        with opened_arrays(path) as stored:
            wanted = [
                name for name in stored.files if only is None or {name, _base(name)} & set(only)
            ]
            arrays = unpacked({name: _array(stored[name]) for name in wanted})
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged or no file of arrays: {error_line(error)}") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return arrays


def _base(name: str) -> str:
    """Return the name of texts that a stored array is part of, or its own."""
    return name.removesuffix("_utf8").removesuffix("_offsets")


def _array(array: Any) -> npt.NDArray[Any]:
    import numpy as np

    if not isinstance(array, np.ndarray):  # a member of the archive without an array's name
        raise ValueError("a member is no array")
    return array


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged or something else.
    """
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged or no file of tensors: {error_line(error)}") from error
    return tensors


def need(record: Any, fields: Mapping[str, Any], where: Path | str) -> None:
    """Check that a record read from a file has fields of these types.

    Raises:
        ValueError: it is no record, lacks one, or has one of another type.
    """
    if not isinstance(record, dict):
        raise ValueError(f"{where} is damaged: it holds no record")
    for name, kind in fields.items():
        if name not in record:
            raise ValueError(f"{where} is damaged: it lacks {name}")
        if not isinstance(record[name], kind):
            raise ValueError(
                f"{where} is damaged: {name} is {type(record[name]).__name__} {record[name]!r:.80}"
            )
