"""Byte offsets of the samples of a WebDataset tar, and one sample's members from its bytes."""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tauten.data.tar_headers import BLOCK, Read, UnusualTarError, usual_members

_HASHED = 16
_LINES = 4096
_WINDOW = 2048


@dataclass(frozen=True)
class TarScan:
    """Result of one pass over the headers of a tar.

    Attributes:
        bounds: n + 1 byte offsets; sample i is bytes bounds[i] .. bounds[i + 1].
        digest: hash of all names and sizes, and of the content of 16 evenly spaced samples.
        damage: what is wrong with the file, or None.
    """

    bounds: list[int]
    digest: str
    damage: str | None


def member_name(name: str) -> tuple[str, str] | None:
    """Return sample key and extension of a member, or None for one that belongs to no sample.

    The key is the path up to the first dot of the file name; hidden files have none.
    """
    name = name.removeprefix("./")
    if "./" in name or "//" in name or name.endswith(("/", "/.")):
        name = str(PurePosixPath(name))
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    if not stem or not extension:
        return None
    return folder + slash + stem, extension.lower()


def scan_tar(path: Path) -> TarScan:
    """Read the headers of an uncompressed tar; the content between them is jumped over.

    A member that a cut has shortened is left out.

    Raises:
        ValueError: members of one sample that do not lie side by side; two of one name.
    """
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size

        scan, behind = _Scan(path, size), 0
        try:
            for name, length, start, _, behind in usual_members(_windows(file), size):
                if name is not None:
                    scan.add(name, length, start, behind)
            damage = wrong_end(file, behind)
        except UnusualTarError:
            scan = _Scan(path, size)
            damage = _scan_unusual(scan, file)
        bounds = [*scan.starts, scan.end]
        if damage is not None:
            damage += f" after {scan.whole} whole members in {size} bytes"
        return TarScan(bounds, _digest(scan.names(), file, bounds), damage)


def _windows(file: BinaryIO) -> Read:
    """Return a reader of an unbuffered file that has small members' next header at hand."""
    held, first = b"", 0

    def read(offset: int, count: int) -> bytes:
        nonlocal held, first
        place = offset - first
        if not 0 <= place <= len(held) - count:
            file.seek(offset)
            held, first, place = file.read(max(count, _WINDOW)), offset, 0
        return held[place : place + count]

    return read


def _scan_unusual(scan: "_Scan", file: BinaryIO) -> str | None:
    """Read any tar with ``tarfile``; return what is wrong with it, or None."""
    try:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else they pile up
                if not member.isfile():
                    continue
                if member.offset_data + member.size > scan.size:
                    raise tarfile.ReadError("unexpected end of data")
                scan.add(member.name, member.size, member.offset, tar.offset)
            return wrong_end(file, tar.offset)
    except tarfile.TarError as error:
        return str(error) or type(error).__name__


def read_members(content: bytes) -> tuple[str, dict[str, bytes]]:
    """Return key and members, by extension, of the sample that these bytes of a tar hold.

    Raises:
        ValueError: two members of the same name, or bytes that hold no sample.
    """
    try:
        return _joined(_usual_files(content))
    except UnusualTarError:
        pass
    try:
        return _joined(_unusual_files(content))
    except tarfile.TarError as error:
        raise ValueError(f"damaged tar header: {error}") from error


def _joined(files: Iterator[tuple[str, bytes]]) -> tuple[str, dict[str, bytes]]:
    """Return the key of the files that belong to a sample, and their content by extension."""
    members: dict[str, bytes] = {}
    key = ""
    for path, content in files:
        name = member_name(path)
        if name is None:
            continue
        key, extension = name
        if extension in members:
            raise ValueError(f"two members named {path}")
        members[extension] = content
    return key, members


def _usual_files(content: bytes) -> Iterator[tuple[str, bytes]]:
    def read(offset: int, count: int) -> bytes:
        return content[offset : offset + count]

    for name, size, _, start, _ in usual_members(read, len(content)):
        if name is not None:
            yield name, content[start : start + size]


def _unusual_files(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield member.name, stream.read()


def wrong_end(file: BinaryIO, end: int) -> str | None:
    """Return what is wrong behind the last member of a tar, or None.

    Args:
        file: the tar, unpacked.
        end: where the last member ends, its padding included.
    """
    file.seek(end)
    block = file.read(BLOCK)
    if block != bytes(BLOCK):
        return "no end-of-archive mark"
    while block == bytes(BLOCK):
        block = file.read(BLOCK)
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return None
    return "further members follow its end-of-archive mark, as in tars joined with cat"


class _Scan:
    """A collector of the offsets where samples begin."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.starts: list[int] = []
        self.end = 0
        self.whole = 0
        self._digest = hashlib.sha256()
        self._lines: list[str] = []
        self._keys: set[str] = set()
        self._key: str | None = None
        self._extensions: set[str] = set()

    def add(self, path: str, size: int, start: int, end: int) -> None:
        """Add a file of the tar: its name, bytes, and offsets of its header and behind it."""
        self.whole += 1
        name = member_name(path)
        if name is None:
            return
        key, extension = name
        if key != self._key:
            self._begin(key, start)
        if extension in self._extensions:
            raise ValueError(f"{self.path}: two members named {path}")
        self._extensions.add(extension)
        self.end = min(end, self.size)
        self._lines.append(f"{path} {size}\n")
        if len(self._lines) == _LINES:
            self.names()

    def names(self) -> "hashlib._Hash":
        """Return the hash of all names and sizes so far."""
        self._digest.update("".join(self._lines).encode("utf-8", "surrogateescape"))
        self._lines = []
        return self._digest

    def _begin(self, key: str, start: int) -> None:
        if key in self._keys:
            raise ValueError(
                f"{self.path}: the members of sample {key} do not lie side by side, as they must "
                "to be read from the middle of the file: write it again with tar --sort=name"
            )
        self._keys.add(key)
        self._key, self._extensions = key, set()
        self.starts.append(start)


def _digest(names: "hashlib._Hash", file: BinaryIO, bounds: list[int]) -> str:
    samples = len(bounds) - 1
    for i in sorted({k * samples // _HASHED for k in range(_HASHED)} if samples else ()):
        file.seek(bounds[i])
        _, members = read_members(file.read(bounds[i + 1] - bounds[i]))
        for extension in sorted(members):
            names.update(hashlib.sha256(members[extension]).digest())
    return names.hexdigest()[:32]
