"""Sums of files, by which a damaged one is told from what was written.

A record that is written last, as JSON, can seal the files beside it: it holds their SHA-256 and
that of itself, under the name "seal".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tauten.files.plain import need, read_json

SEAL = "seal"


def sha256(path: Path, most: int | None = None) -> str:
    """Return the SHA-256 of a file's content.

    Args:
        path: path of the file.
        most: bytes to read from its start; by default all.
    """
    digest, block = hashlib.sha256(), bytearray(2**20)
    left = path.stat().st_size if most is None else most
    with path.open("rb", buffering=0) as file:
        while left > 0 and (count := file.readinto(memoryview(block)[:left])):
            digest.update(memoryview(block)[:count])
            left -= count
    return digest.hexdigest()


def sealed(record: Mapping[str, Any], folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Return a record with the sums of itself and of files.

    Args:
        record: record of values that JSON has.
        folder: folder of the files.
        names: names of the files; those that are not there are left out.
    """
    there = [name for name in names if (folder / name).is_file()]
    files = {name: sha256(folder / name) for name in there}
    return {**record, SEAL: {"record": _sum(record), "files": files}}


def read_sealed(path: Path, files: Sequence[str] | None = None) -> Any:
    """Read a record, and check it and the files that it seals.

    Args:
        path: path of the record. One without a seal, of an earlier version, is read as it is.
        files: names of those to check; by default all. One that is gone is left to its reader.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or it or a file is not what was written; the error names it.
    """
    record = read_json(path)
    if not isinstance(record, dict) or SEAL not in record:
        return record
    seal = record[SEAL]
    need(seal, {"record": str, "files": dict}, f"{path}: {SEAL}")
    if _sum({name: value for name, value in record.items() if name != SEAL}) != seal["record"]:
        raise ValueError(_damaged(path))
    for name, expected in seal["files"].items():
        file = path.parent / name
        wanted = files is None or name in files
        if wanted and file.is_file() and sha256(file) != expected:
            raise ValueError(_damaged(file))
    return record


def _sum(record: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(record))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path) -> str:
    return (
        f"{path} is damaged: it has another content than was written. Bring it back from a copy, "
        "or remove the run's results.json and start the same training again, which writes these "
        "files anew from its checkpoints"
    )
