"""The history of a run: a line of numbers for each logged step and each evaluation."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tauten.files import need, read_lines, replace_text, sha256, sync_folder

logger = logging.getLogger("tauten.training")


class History:
    """Lines of ``history.jsonl``, of which one at the end may have been cut.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def sum(self) -> dict[str, Any]:
        """Return size and SHA-256 of ``history.jsonl`` now, to store with a checkpoint."""
        size = self.path.stat().st_size if self.path.exists() else 0
        return {"bytes": size, "sha256": sha256(self.path, size) if size else ""}

    def check(self, then: Mapping[str, Any]) -> None:
        """Say it if ``history.jsonl`` is not what it was at a checkpoint; the training is.

        Args:
            then: what :meth:`sum` told.
        """
        size, there = then["bytes"], self.path.exists()
        if size and (not there or sha256(self.path, size) != then["sha256"]):
            logger.warning(
                "%s is damaged: before the checkpoint that training goes on from it has another "
                "content than was written. The training is not touched; curves and logged numbers "
                "of these steps cannot be believed",
                self.path,
            )

    def truncate(self, step: int) -> None:
        """Drop the lines of steps after ``step``, and one that was cut."""
        earlier = [json.dumps(line) for line in self.read() if line["step"] <= step]
        replace_text(self.path, "".join(f"{line}\n" for line in earlier))

    def read(self) -> list[dict[str, Any]]:
        """Return the whole lines of ``history.jsonl``.

        Raises:
            ValueError: a line is damaged that is not the last.
        """
        if not self.path.exists():
            return []
        lines = read_lines(self.path)
        for number, line in enumerate(lines, start=1):
            need(line, {"step": int}, f"{self.path}, line {number},")
        return lines

    def sync(self) -> None:
        """Flush ``history.jsonl`` to the disk: it must not be behind a checkpoint."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            sync_folder(self.path.parent)  # its name, where it is new

    def append(self, line: dict[str, Any]) -> None:
        """Add one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
