"""What several benchmarks need."""

from __future__ import annotations

import ctypes
import importlib.util
import multiprocessing
import re
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType


class Allocated:
    """Most MiB of anonymous memory above that at the start, sampled by a thread."""

    def __init__(self) -> None:
        self.before = self.most = self.now()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @staticmethod
    def now() -> float:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.most = max(self.most, self.now())

    def __enter__(self) -> Allocated:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def above(self) -> float:
        return self.most - self.before


def peak_in_fork(start: Callable[[], Callable[[], object]]) -> float:
    """Return the most MiB that a step takes above what is held after its start.

    Args:
        start: called in a process forked from this one, which must not have computed with several
            threads before; returns the step.
    """
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()

    def measure() -> None:
        step = start()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        step()
        answer.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)

    process = context.Process(target=measure)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the measured process ended with {process.exitcode}")
    return float(answer.get())


def file_of(package: str, name: str) -> ModuleType | None:
    """One file of a package, loaded without the package around it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    spec = importlib.util.spec_from_file_location(
        f"{package}_{name[:-3]}", Path(found.origin).parent / name
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
