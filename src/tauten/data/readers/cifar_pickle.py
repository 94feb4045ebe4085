"""The python pickles of CIFAR, read without running what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tauten.data.array_pickle import ArrayUnpickler, PickledArray, RefusedPickleError


def read_cifar(file: Path) -> dict[str, Any]:
    """Read a batch of CIFAR: a pickle that may hold lists, texts and arrays of numbers only.

    Args:
        file: as published, written by Python 2 or 3.

    Returns:
        Its entries by name, arrays as numpy arrays, texts in lists as bytes.

    Raises:
        ValueError: a damaged file, or one that names anything else; nothing is run.
    """
    try:
        with file.open("rb") as stream:
            batch = ArrayUnpickler(stream, encoding="bytes").load()
    except RefusedPickleError as error:
        raise ValueError(f"{file}: {error}") from error
    except Exception as error:  # a damaged pickle raises errors of any kind
        raise ValueError(f"{file} is no readable batch of CIFAR: {error}") from error
    if not isinstance(batch, dict):
        raise ValueError(f"{file} holds a {type(batch).__name__}, not a batch of CIFAR")
    return {_text(key): _plain(value) for key, value in batch.items()}


def _text(key: Any) -> str:
    return key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)


def _plain(value: Any) -> Any:
    if isinstance(value, PickledArray):
        return value.value
    if isinstance(value, list):
        return [one.encode() if isinstance(one, str) else one for one in value]
    return value
