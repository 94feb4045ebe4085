"""One short string that tells data sets apart."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

_SAMPLED = 64
_ROWS = 256


def fingerprint(dataset: Dataset) -> str:
    """Hash the content of a data set: same data, same string.

    A checkpoint keeps it to tell whether it sees its own data again. It covers the number and order
    of rows, all of `index`, `id`, `caption` and `label` that exist, and the stored content of 64
    evenly spaced rows of every other column. Paths of pictures and `file_row` are left out: the
    same data in another place has the same fingerprint.

    Args:
        dataset: any Hugging Face data set.

    Returns:
        32 hexadecimal digits.
    """
    dataset = dataset.select_columns([name for name in dataset.column_names if name != "file_row"])
    digest = hashlib.sha256(f"{len(dataset)} {sorted(dataset.column_names)}".encode())
    whole = [name for name in ("index", "id", "caption", "label") if name in dataset.column_names]
    plain = dataset.with_format("arrow")
    for name in whole:
        values = plain.select_columns([name])[:][name].to_pylist() if len(dataset) else []
        _update(digest, name, values)
    rows = np.unique(np.linspace(0, max(len(dataset) - 1, 0), _SAMPLED).round().astype(int))
    sampled = plain[rows.tolist()] if len(dataset) else None
    for name in sorted(set(dataset.column_names) - set(whole)):
        _update(digest, name, [] if sampled is None else sampled[name].to_pylist())
    return digest.hexdigest()[:32]


def contents(dataset: Dataset) -> str:
    """Hash every value of every row, pictures included, so that no change goes unnoticed.

    Each picture is read once, without decoding it. Names of files are left out, as by
    :func:`fingerprint`.

    Args:
        dataset: any Hugging Face data set.

    Returns:
        32 hexadecimal digits.
    """
    names = sorted(dataset.column_names)
    digest = hashlib.sha256(f"{len(dataset)} {names}".encode())
    plain = dataset.with_format("arrow")
    for start in range(0, len(dataset), _ROWS):
        rows = plain[start : start + _ROWS]
        for name in names:
            _update(digest, name, rows[name].to_pylist())
    return digest.hexdigest()[:32]


def _update(digest: Any, name: str, values: list[Any]) -> None:
    content = [_picture(value) for value in values]
    digest.update(json.dumps([name, content], default=_stable, sort_keys=True).encode())


def _picture(value: Any) -> Any:
    """Replace a stored picture by its bytes, wherever they are."""
    if not isinstance(value, dict) or set(value) != {"bytes", "path"}:
        return value
    return value["bytes"] if value["bytes"] is not None else Path(value["path"]).read_bytes()


def _stable(value: Any) -> str:
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
