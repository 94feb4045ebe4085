"""Headers of a tar, read without ``tarfile`` where they are of the usual kinds."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator

import numpy as np

BLOCK = 512
_END = bytes(BLOCK)
_CHECKED = 512
_CHECKSUM = slice(148, 156)
_PLACES = 8 ** np.arange(5, -1, -1)
#: mode and ids, time, numbers of devices
_NUMBERS = (slice(100, 124), slice(136, 148), slice(329, 345))
_DIGITS = np.isin(np.arange(256), [0, *b"01234567"])
_FILES = (b"0", b"\0")
#: links, devices, folders and pipes, which have no content
_EMPTY = (b"1", b"2", b"3", b"4", b"5", b"6")
_LONG_NAME, _PAX = b"L", b"x"
_RECORD = re.compile(rb"(\d{1,18}) ([^=\n]+)=")

#: bytes of a tar from an offset, so many or what is there
Read = Callable[[int, int], bytes]


class UnusualTarError(Exception):
    """A header of a rarer kind or a damaged one, which is left to ``tarfile``."""


#: name of a file, or None for a folder, link or device; bytes of its content; and the offsets of
#: its first header, of its content, and behind it, the padding included
Member = tuple[str | None, int, int, int, int]


def usual_members(read: Read, size: int) -> Iterator[Member]:
    """Yield the members of a tar as ``tarfile`` finds them, several times as fast.

    Headers of v7, ustar, GNU and pax are read, long names of GNU and pax, too. Every header's
    checksum and numbers are checked before its member is given. The tar ends at a block of zeros or
    at its last byte; what is behind its last member is not looked at.

    Args:
        read: gives bytes of the tar.
        size: size of the tar.

    Raises:
        UnusualTarError: anything else, such as sparse files, global headers, a wrong checksum or a
            cut.
    """
    waiting: list[Member] = []
    headers: list[bytes] = []
    offset = 0
    while offset < size:
        block = read(offset, BLOCK)
        if block == _END:
            break
        start, name, length, header = offset, None, None, _whole(block)
        headers.append(header)
        kind = header[156:157]
        if kind in (_LONG_NAME, _PAX):
            beside = _number(header[124:136])
            padded = _padded(beside)
            both = read(offset + BLOCK, padded + BLOCK)
            if kind == _PAX:
                name, length = _pax(both[:padded], beside)
            else:
                name = _text(both[:padded])
            offset += BLOCK + padded
            header = _whole(both[padded:])
            headers.append(header)
            kind = header[156:157]
        offset += BLOCK
        if kind in _FILES:
            length = _number(header[124:136]) if length is None else length
            stored = _name(header)
            if kind == b"\0" and stored.endswith("/"):
                raise UnusualTarError(f"a folder of the oldest kind at {start}")
            end = offset + _padded(length)
            if offset + length > size:
                raise UnusualTarError(f"the content at {offset} is cut")
            waiting.append((stored if name is None else name, length, start, offset, end))
            offset = end
        elif kind in _EMPTY:
            waiting.append((None, 0, start, offset, offset))
        else:
            raise UnusualTarError(f"a header of kind {kind!r} at {start}")
        if len(headers) >= _CHECKED:
            _check(headers)
            yield from waiting
            waiting, headers = [], []
    if offset > size:
        raise UnusualTarError("the last member is cut")
    _check(headers)
    yield from waiting


def _whole(block: bytes) -> bytes:
    """Return a header; one that is cut is refused."""
    if len(block) != BLOCK:
        raise UnusualTarError("a header is cut")
    return block


def _name(header: bytes) -> str:
    name = _text(header[:100])
    return f"{_text(header[345:500])}/{name}" if header[345] else name


def _text(field: bytes) -> str:
    end = field.find(b"\0")
    return (field if end < 0 else field[:end]).decode(tarfile.ENCODING, "surrogateescape")


def _padded(size: int) -> int:
    return (size + BLOCK - 1) & -BLOCK


def _number(field: bytes) -> int:
    """Return an octal or binary number of a header.

    Raises:
        UnusualTarError: it is neither, or negative.
    """
    digits = field[:-1] if len(field) == 12 else field[:-2]
    try:  # digits and a zero byte, as most writers of tars put them
        number = int(digits, 8) if field[len(digits)] == 0 else _any_number(field)
    except ValueError:
        number = _any_number(field)
    if number < 0:
        raise UnusualTarError(f"a negative number, {field!r}")
    return number


def _any_number(field: bytes) -> int:
    try:
        return int(tarfile.nti(field))  # type: ignore[attr-defined]
    except tarfile.HeaderError as error:
        raise UnusualTarError(f"no number: {field!r}") from error


def _check(headers: list[bytes]) -> None:
    """Check checksums, and the numbers of headers beside size and checksum.

    Raises:
        UnusualTarError: a header whose bytes do not add up, or with no number where one belongs.
    """
    if not headers:
        return
    table = np.frombuffer(b"".join(headers), dtype=np.uint8).reshape(-1, BLOCK)
    digits = table[:, 148:154].astype(np.int64) - ord("0")
    written = digits @ _PLACES
    plain = (digits >= 0).all(1) & (digits < 8).all(1) & (table[:, 154] == 0)
    for row in np.flatnonzero(~plain).tolist():
        written[row] = _number(headers[row][_CHECKSUM])
    # the checksum itself counts as spaces
    added = table.sum(1, dtype=np.int64) - table[:, _CHECKSUM].sum(1, dtype=np.int64)
    if not np.array_equal(added + 8 * ord(" "), written):
        raise UnusualTarError("a wrong checksum")
    simple = np.logical_and.reduce([_DIGITS[table[:, part]].all(1) for part in _NUMBERS])
    odd = {headers[row][part] for row in np.flatnonzero(~simple).tolist() for part in _NUMBERS}
    for fields in odd:
        width = 12 if len(fields) == 12 else 8
        for place in range(0, len(fields), width):
            _any_number(fields[place : place + width])


def _pax(content: bytes, size: int) -> tuple[str | None, int | None]:
    """Return the name and the size that a pax header gives the next member, if it does.

    Raises:
        UnusualTarError: records that are no text, of sparse files, or not well formed.
    """
    if b"GNU.sparse" in content or b"hdrcharset" in content or content[size:].strip(b"\0"):
        raise UnusualTarError("a pax header of a rarer kind")
    name, length, place = None, None, 0
    while place < size:
        record = _RECORD.match(content, place)
        stop = 0 if record is None else place + int(record[1])
        if record is None or not record.end() < stop <= size or content[stop - 1] != ord("\n"):
            raise UnusualTarError("a damaged pax header")
        if record[2] in (b"path", b"size"):
            try:
                value = content[record.end() : stop - 1].decode()
                if record[2] == b"path":
                    name = value.rstrip("/")
                else:
                    length = int(value)
            except ValueError as error:
                raise UnusualTarError("a pax header that is no text") from error
        place = stop
    if length is not None and length < 0:
        raise UnusualTarError(f"a negative size, {length}")
    return name, length
