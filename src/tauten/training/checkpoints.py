"""Checkpoints that are either whole or ignored.

A checkpoint is written to a staging folder; last comes ``complete.json``, which lists the files and
their sizes; then one rename makes it ``checkpoint-STEP``. A process killed anywhere in between
leaves only a staging folder behind.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger("tauten.training")

MARKER = "complete.json"
STAGING = ".staging"
BEST = "best"
SHARDED = "sharded"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(folder: Path) -> None:
    """Write the marker of a checkpoint whose files are all there."""
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }
    replace_text(folder / MARKER, json.dumps({"files": sizes}, indent=1))


def is_complete(folder: Path) -> bool:
    """Whether the marker is there and all files have their size."""
    try:
        sizes = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def find(root: Path) -> list[tuple[int, Path]]:
    """Whole checkpoints by step, the latest last; others are named in the log."""
    found: list[tuple[int, Path]] = []
    for path in root.glob("checkpoint-*"):
        match = _NAME.fullmatch(path.name)
        if match is None or not path.is_dir():
            continue
        if is_complete(path):
            found.append((int(match[1]), path))
        else:
            logger.warning("ignoring the incomplete checkpoint %s", path)
    return sorted(found)


def publish(staged: Path, root: Path) -> Path:
    """Seal a checkpoint in the staging folder and move it to its place in one rename."""
    seal(staged)
    final = root / staged.name
    if final.exists():
        shutil.rmtree(final)
    staged.rename(final)
    staged.parent.rmdir()
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
            SHARDED, "optimizer.pt", "scheduler.pt", "rng_state*.pth", MARKER
        ),
    )
    seal(fresh)
    shutil.rmtree(best, ignore_errors=True)
    fresh.rename(best)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def rotate(root: Path, keep: Iterable[int]) -> None:
    """Remove all checkpoints but those of these steps."""
    kept = set(keep)
    for step, path in find(root):
        if step not in kept:
            doomed = root / f"{STAGING}-remove-{step}"
            path.rename(doomed)
            shutil.rmtree(doomed)


def clean(root: Path) -> None:
    """Remove what a killed process left half done."""
    for path in root.glob(f"{STAGING}*"):
        shutil.rmtree(path)


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a kill leaves either the old content or the new."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
