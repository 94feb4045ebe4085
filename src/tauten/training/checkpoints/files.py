"""Checkpoints that are either whole or ignored; :mod:`tauten.training.session` resumes from them.

A checkpoint is written to a staging folder; last comes ``complete.json``, which lists the files,
their sizes and their SHA-256; then all is flushed to the disk, and one rename makes it
``checkpoint-STEP``. A process killed anywhere in between leaves only a staging folder behind.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tauten.files import error_line, need, read_json, replace_text, sha256, sync_folder, sync_tree

logger = logging.getLogger("tauten.training")

MARKER = "complete.json"
STAGING = ".staging"
BEST = "best"
SHARDED = "sharded"
STATE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(folder: Path, sums: Mapping[str, str] | None = None) -> None:
    """Flush a checkpoint whose files are all there, and write its marker.

    Args:
        folder: of the checkpoint.
        sums: SHA-256 by name of the files that are known already.
    """
    known = sums or {}
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }
    marker = {
        "files": {name: path.stat().st_size for name, path in files.items()},
        "sha256": {name: known.get(name) or sha256(path) for name, path in files.items()},
    }
    sync_tree(folder)
    replace_text(folder / MARKER, json.dumps(marker, indent=1))


def _marker(folder: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Return sizes and sums by name; no sums in a checkpoint of an earlier version."""
    path = folder / MARKER
    try:
        marker = read_json(path)
        need(marker, {"files": dict}, path)
        sums = marker.get("sha256", {})
        need({"sha256": sums}, {"sha256": dict}, path)
        return marker["files"], sums
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder} is no whole checkpoint: no readable {MARKER}, which is written last; load "
            "an earlier one"
        ) from error


def _check_sizes(folder: Path) -> dict[str, str]:
    sizes, sums = _marker(folder)
    for name, size in sizes.items():
        path = folder / name
        there = path.stat().st_size if path.is_file() else None
        if there != size:
            has = "is missing" if there is None else f"has {there} bytes instead of {size}"
            raise ValueError(f"{folder} is damaged: {name} {has}; load an earlier checkpoint")
    return sums


def check(folder: Path) -> None:
    """Refuse a folder whose files are not those that were sealed, by every byte.

    Raises:
        ValueError: no marker, or a file is missing or has another size or content.
    """
    for name, expected in _check_sizes(folder).items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise ValueError(
                f"{folder} is damaged: {name} has another content than was written; load an "
                "earlier checkpoint"
            )


def is_complete(folder: Path) -> bool:
    """Tell whether the marker is there and all files have their size."""
    try:
        _check_sizes(folder)
    except ValueError:
        return False
    return True


def find(root: Path) -> list[tuple[int, Path]]:
    """Return checkpoints by step whose files have their sizes, the latest last;
    the log names others.
    """
    complete: list[tuple[int, Path]] = []
    for step, path in _numbered(root):
        if is_complete(path):
            complete.append((step, path))
        else:
            logger.warning("ignoring the incomplete checkpoint %s", path)
    return complete


def latest(root: Path) -> Path | None:
    """Return the latest checkpoint that is whole by every byte; the log names later ones."""
    for _, path in reversed(find(root)):
        try:
            check(path)
        except ValueError as error:
            logger.warning("ignoring a checkpoint: %s", error)
            continue
        return path
    return None


def _numbered(root: Path) -> list[tuple[int, Path]]:
    named = ((_NAME.fullmatch(path.name), path) for path in root.glob("checkpoint-*"))
    return sorted((int(match[1]), path) for match, path in named if match and path.is_dir())


def publish(staged: Path, root: Path) -> Path:
    """Seal a checkpoint in the staging folder and move it to its place in one rename."""
    seal(staged)
    final = root / staged.name
    if final.exists():
        shutil.rmtree(final)
    staged.rename(final)
    staged.parent.rmdir()
    sync_folder(root)
    return final


def set_best(checkpoint: Path, root: Path) -> None:
    """Make ``best`` a copy of this checkpoint's model (hard links where possible)."""
    fresh, best = root / f"{STAGING}-{BEST}", root / BEST
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(
        checkpoint,
        fresh,
        copy_function=_link,
        ignore=shutil.ignore_patterns(
            *(SHARDED, "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", MARKER)
        ),
    )
    seal(fresh, _marker(checkpoint)[1])
    shutil.rmtree(best, ignore_errors=True)
    fresh.rename(best)
    sync_folder(root)


def best_of(root: Path) -> Path:
    """Return the best checkpoint of a run; for a damaged one, the one that it is a copy of.

    Raises:
        ValueError: neither is whole, and what is wrong with the best.
    """
    best = root / BEST
    try:
        check(best)
    except ValueError as error:
        state = next((state_of(path) for _, path in reversed(find(root))), {})
        same = root / f"checkpoint-{state.get('best_global_step')}"
        try:
            check(same)
        except ValueError:
            remedy = (
                "no other copy of it is whole: bring the folder back from a copy, or train anew"
            )
            raise ValueError(f"{str(error).partition('; load')[0]}; {remedy}") from error
        logger.warning("%s; using %s, which it is a copy of", error_line(error), same)
        return same
    return best


def state_of(checkpoint: Path) -> dict[str, Any]:
    """Read the trainer's state at a checkpoint: steps, and which were best so far.

    Raises:
        ValueError: it is damaged.
    """
    path = checkpoint / STATE
    state = read_json(path)
    need(state, {"global_step": int}, path)
    checked: dict[str, Any] = state
    return checked


@contextlib.contextmanager
def reading(checkpoint: Path, name: str) -> Iterator[None]:
    """Name the files of a checkpoint that a block cannot use.

    Raises:
        ValueError: they are damaged, or of another version.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(_unusable(checkpoint, name, error)) from error
    except Exception as error:
        raise ValueError(_unusable(checkpoint, name, error)) from error


def _unusable(checkpoint: Path, name: str, error: Exception) -> str:
    return (
        f"{checkpoint}: {name} cannot be used, damaged or of another version: {error_line(error)}"
    )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def rotate(root: Path, keep: Iterable[int]) -> None:
    """Remove all checkpoints but those of these steps, damaged ones too."""
    staying = set(keep)
    for step, path in _numbered(root):
        if step not in staying:
            doomed = root / f"{STAGING}-remove-{step}"
            path.rename(doomed)
            shutil.rmtree(doomed)


def clean(root: Path) -> None:
    """Remove what a killed process left half done."""
    for path in root.glob(f"{STAGING}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
