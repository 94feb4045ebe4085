"""The environment that results may depend on: versions, threads, algorithms."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import Any

import torch
import transformers

import tauten
from tauten.training import processes


def versions() -> dict[str, Any]:
    """Return what results may depend on beside the configuration."""
    return {
        "python": platform.python_version(),
        "tauten": tauten.__version__,
        "torch": str(torch.__version__),
        "transformers": str(transformers.__version__),
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "processes": processes.count(),
    }


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Use deterministic algorithms where torch has them, and restore the setting at the end."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
