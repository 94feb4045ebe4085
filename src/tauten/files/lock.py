"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from pathlib import Path
from types import TracebackType

from tauten.files.atomic import make_folder, remove_unused

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has none
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("tauten.files")

NAME = ".lock"
#: locks of this process: the system gives a process its own lock a second time
_HELD: dict[str, int] = {}


class Lock:
    """The right of one process to write to a folder, from ``with`` to its end.

    The system holds it for the process and takes it back when the process ends, however it ends.
    The folder is made, and removed again if nothing is in it at the end.

    Args:
        folder: to write to.
        what: is done there, for the error.
    """

    def __init__(self, folder: Path, what: str = "a run") -> None:
        self.folder = Path(folder)
        self.what = what
        self.path = self.folder / NAME
        self._handle: int | None = None
        self._made: list[Path] = []

    def __enter__(self) -> Lock:
        """Take the lock.

        Raises:
            ValueError: another process has it, with its number; or the folder cannot be made.
        """
        key = str(self.path.absolute())
        if _HELD.get(key) == os.getpid():
            raise ValueError(self._busy(f"this process ({os.getpid()})"))
        self._made = make_folder(self.folder)
        try:
            self._handle = self._take()
        except BaseException:
            remove_unused(self._made)
            raise
        _HELD[key] = os.getpid()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _HELD.pop(str(self.path.absolute()), None)
        if self._handle is not None:
            # removed while it is held: who waits for this file finds that it is gone
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None
        remove_unused(self._made)

    def _take(self) -> int | None:
        if fcntl is None:  # pragma: no cover
            logger.warning("%s is not locked: this system has no locks of files", self.folder)
            return None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
        while True:
            handle = os.open(self.path, flags, 0o666)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError) as error:
                owner = os.pread(handle, 200, 0).decode(errors="replace").strip()
                os.close(handle)
                raise ValueError(self._busy(owner or "another process")) from error
            except OSError as error:
                os.close(handle)
                self.path.unlink(missing_ok=True)
                logger.warning("%s is not locked: %s", self.folder, error.strerror)
                return None
            if _is(handle, self.path):
                os.ftruncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return handle
            os.close(handle)

    def _busy(self, owner: str) -> str:
        return (
            f"{owner} writes to {self.folder}, and {self.what} has its folder to itself: wait "
            "until it has ended, or choose another output"
        )


def _is(handle: int, path: Path) -> bool:
    """Tell whether a name still stands for an open file."""
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(handle)
    return (named.st_ino, named.st_dev) == (held.st_ino, held.st_dev)
