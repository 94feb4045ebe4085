"""Files that are there whole or not at all, after a kill and after a loss of power.

Each is written under a name that nobody can foresee, in the folder of the file itself. It is
flushed to the disk, then renamed, and the folder is flushed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

_PART = re.compile(r"\..+\.part")
#: bytes left on a disk below which a failed write without a reason is put down to a full disk
_FULL = 2**20


@contextlib.contextmanager
def replacing(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of ``path`` when the block ends without error.

    A link at ``path`` is replaced, not followed.

    Args:
        path: path of the file; its folder exists.

    Raises:
        OSError: it cannot be written; the error names ``path``, and nothing is left behind.
    """
    path = Path(path)
    with naming(path):
        draft, handle = _draft(path)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def _draft(path: Path) -> tuple[Path, int]:
    """Open a new file beside ``path``, never one that exists, and never through a link."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        draft = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.part")
        try:
            return draft, os.open(draft, flags, 0o666)
        except FileExistsError:
            continue
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Name ``path`` in errors of writing that name no file, and a full disk as what it is.

    Raises:
        OSError: the block could not write.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except Exception as error:
        # safetensors and torch have errors of their own for a write that fails
        text = str(error)
        signs = (
            "os error 28",
            "No space left",
            "PytorchStreamWriter",
            "unexpected pos",
            "iostream",
        )
        if not any(sign in text for sign in signs):
            raise
        if "No space left" in text or "os error 28" in text or _is_full(Path(path)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise OSError(errno.EIO, f"could not be written ({text.splitlines()[0]})", str(path)) from (
            error
        )


def _is_full(path: Path) -> bool:
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free < _FULL


def replace_text(path: Path | str, text: str) -> None:
    """Write a text file so that a kill leaves either the old content or the new."""
    with replacing(path) as file:
        file.write(text.encode("utf-8"))


def write_npz(path: Path | str, arrays: dict[str, Any]) -> None:
    """Write arrays so that a kill leaves either the old file or the new."""
    import numpy as np

    with replacing(path) as file:
        np.savez(file, **arrays)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush a folder, all files below it and their names to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(root) / name, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(root))


def is_part(name: str) -> bool:
    """Tell whether a file of this name is a draft."""
    return _PART.fullmatch(name) is not None


def remove_parts(folder: Path) -> None:
    """Remove the drafts that a killed process left in a folder; links are removed, not followed."""
    for path in folder.iterdir():
        if is_part(path.name) and (path.is_symlink() or path.is_file()):
            path.unlink(missing_ok=True)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it, and flush their names to the disk.

    Returns:
        The folders that were made, the deepest first.

    Raises:
        ValueError: it, or what is above it, is a file, or a link to what does not exist.
    """
    missing: list[Path] = []
    for path in (folder, *folder.parents):
        if path.is_dir():
            break
        if path.is_symlink():
            raise ValueError(
                f"{path} is a link to {path.readlink()}, which does not exist: make that folder, "
                "remove the link, or choose another output"
            )
        if path.exists():
            raise ValueError(f"{path} is a file, not a folder: choose another output")
        missing.append(path)
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    return missing


def remove_unused(folders: Sequence[Path]) -> None:
    """Remove those folders that are empty, in this order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
