"""Processes that a launcher started: how many, which of them prints, and work that all do."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from tauten.cli.imports import quick_imports


def process_count() -> int:
    """Return how many processes a launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check_alone(what: str) -> None:
    """Refuse several processes where one does the work."""
    if process_count() > 1:
        raise ValueError(f"{what} runs on one process, and a launcher started {process_count()}")


def speaks() -> bool:
    """Return whether this process prints: the only one, or the first that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def launched() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Join the processes that a launcher started; yield what surrounds work that all do.

    Without a launcher nothing is imported for it, so that options are checked before torch loads.
    """
    if process_count() == 1:
        yield contextlib.nullcontext
        return
    with quick_imports():
        from tauten.training import processes

    with processes.command():
        yield processes.together
