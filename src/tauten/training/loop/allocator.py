"""An allocator setting: freed memory stays with the process while it trains on a CPU.

The C library's malloc gives tensors of many megabytes back to the system as soon as they are freed,
and every step pays for their pages anew: of EfficientNet-Lite0 at 128 pixels that was half the time
of a step.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MIB = 2**20
#: trim never, map nothing
_KEEP = {_TRIM_THRESHOLD: -1, _MMAP_MAX: 0}
#: where the thresholds that glibc moves by itself end up in a process with large tensors
_RELEASE = {_TRIM_THRESHOLD: 64 * _MIB, _MMAP_THRESHOLD: 32 * _MIB, _MMAP_MAX: 65536}


@contextlib.contextmanager
def keeping_memory() -> Iterator[None]:
    """Keep freed memory for the next step within the block, and give it back at the end.

    Of the whole process. Nothing changes with another C library, with a GPU, or where a variable
    such as ``MALLOC_ARENA_MAX`` says how malloc is to behave.
    """
    libc = _libc()
    if libc is None:
        yield
        return
    _set(libc, _KEEP)
    try:
        yield
    finally:
        _set(libc, _RELEASE)
        libc.malloc_trim(0)


def give_back() -> None:
    """Give back now what is free, after work whose tensors are of other sizes than those of a step.

    Without it every evaluation would leave a part of its memory behind.
    """
    libc = _libc()
    if libc is not None:
        libc.malloc_trim(0)


def _libc() -> ctypes.CDLL | None:
    """Return the C library, where it is glibc and nobody else has set its limits."""
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or platform.libc_ver()[0] != "glibc" or torch.cuda.is_available():
        return None
    return ctypes.CDLL(None)


def _set(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)
