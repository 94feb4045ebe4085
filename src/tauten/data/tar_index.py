"""Byte offsets of the samples of a WebDataset tar, and one sample's members from its bytes."""

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_BLOCK = 512
_HASHED = 16


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
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    if not stem or not extension:
        return None
    return (str(path.parent / stem) if path.parent.parts else stem), extension.lower()


def scan_tar(path: Path) -> TarScan:
    """Read the headers of an uncompressed tar; the content between them is jumped over.

    A member that a cut has shortened is left out.

    Raises:
        ValueError: members of one sample that do not lie side by side; two of one name.
    """
    with path.open("rb") as file:
        scan = _Scan(path, os.fstat(file.fileno()).st_size)
        damage = None
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # else they pile up
                    scan.add(member, tar.offset)
                damage = wrong_end(file, tar.offset)
        except tarfile.TarError as error:
            damage = str(error) or type(error).__name__
        bounds = [*scan.starts, scan.end]
        if damage is not None:
            damage += f" after {scan.whole} whole members in {scan.size} bytes"
        return TarScan(bounds, _digest(scan.digest, file, bounds), damage)


def read_members(content: bytes) -> tuple[str, dict[str, bytes]]:
    """Return key and members, by extension, of the sample that these bytes of a tar hold.

    Raises:
        ValueError: two members of the same name, or bytes that hold no sample.
    """
    members: dict[str, bytes] = {}
    key = ""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                name = member_name(member.name) if member.isfile() else None
                stream = None if name is None else tar.extractfile(member)
                if name is None or stream is None:
                    continue
                key, extension = name
                if extension in members:
                    raise ValueError(f"two members named {member.name}")
                members[extension] = stream.read()
    except tarfile.TarError as error:
        raise ValueError(f"damaged tar header: {error}") from error
    return key, members


def wrong_end(file: BinaryIO, end: int) -> str | None:
    """Return what is wrong behind the last member of a tar, or None.

    Args:
        file: the tar, unpacked.
        end: where the last member ends, its padding included.
    """
    file.seek(end)
    block = file.read(_BLOCK)
    if block != bytes(_BLOCK):
        return "no end-of-archive mark"
    while block == bytes(_BLOCK):
        block = file.read(_BLOCK)
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
        self.digest = hashlib.sha256()
        self._keys: set[str] = set()
        self._key: str | None = None
        self._extensions: set[str] = set()

    def add(self, member: tarfile.TarInfo, end: int) -> None:
        if not member.isfile():
            return
        if member.offset_data + member.size > self.size:
            raise tarfile.ReadError("unexpected end of data")
        self.whole += 1
        name = member_name(member.name)
        if name is None:
            return
        key, extension = name
        if key != self._key:
            self._begin(key, member.offset)
        if extension in self._extensions:
            raise ValueError(f"{self.path}: two members named {member.name}")
        self._extensions.add(extension)
        self.end = min(end, self.size)
        line = f"{member.name} {member.size}\n"
        self.digest.update(line.encode("utf-8", "surrogateescape"))

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
