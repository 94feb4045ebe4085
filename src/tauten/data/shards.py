"""WebDataset shards: tar files whose members share a name up to the first dot if they belong
together."""

import io
import tarfile
import zlib
from collections import defaultdict
from pathlib import Path
from typing import BinaryIO

from tauten.data.tar_index import member_name, wrong_end

SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")

Samples = dict[str, dict[str, bytes]]


class TruncatedShardError(ValueError):
    """A tar file ends, or is damaged, before its end-of-archive mark."""


def is_shard(path: Path) -> bool:
    """Return whether the file's name ends like that of a tar."""
    return path.name.lower().endswith(SHARD_SUFFIXES)


def is_gzip(path: Path) -> bool:
    """Return whether a file begins as gzip does."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def read_shard(path: Path, allow_truncated: bool = False) -> tuple[Samples, str | None]:
    """Read a tar file into memory.

    Args:
        path: .tar, .tar.gz or .tgz.
        allow_truncated: keep the whole members before a cut instead of raising.

    Returns:
        Samples in order of first appearance, key -> extension -> content, and what is wrong with
        the file: None unless it is truncated and that is allowed.

    Raises:
        TruncatedShardError: the file is cut or damaged; the message counts the whole members.
        ValueError: two members of the same name.
    """
    samples: Samples = defaultdict(dict)
    whole, damage = 0, None
    try:
        file, cut = _plain(path)
        with file, tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                if member.isfile():
                    stream = tar.extractfile(member)
                    assert stream is not None
                    content = stream.read()
                    whole += 1
                    _place(samples, path, member.name, content)
            damage = wrong_end(file, tar.offset)
            if damage is None and cut:
                damage = "its gzip data are cut"
    except (tarfile.TarError, zlib.error) as error:
        damage = str(error) or type(error).__name__
    if damage is None:
        return dict(samples), None
    message = (
        f"{path} is truncated or damaged ({damage}) after {whole} whole members "
        f"in {path.stat().st_size} bytes"
    )
    if allow_truncated and whole:
        return dict(samples), message
    keeping = ", or allow_truncated=True to use the whole members" if whole else ""
    raise TruncatedShardError(f"{message}: copy or download it again{keeping}")


def _plain(path: Path) -> tuple[BinaryIO, bool]:
    """Open the tar, unpacked as far as it goes if it is gzipped; whether its gzip data are cut."""
    if not is_gzip(path):
        return path.open("rb"), False
    packed, unpacked, cut = path.read_bytes(), [], False
    while packed.strip(b"\0"):  # zeros after the end are padding
        stream = zlib.decompressobj(wbits=31)
        unpacked.append(stream.decompress(packed))
        cut = not stream.eof
        packed = stream.unused_data
    return io.BytesIO(b"".join(unpacked)), cut


def _place(samples: Samples, shard: Path, name: str, content: bytes) -> None:
    place = member_name(name)
    if place is None:
        return
    key, extension = place
    if extension in samples[key]:
        raise ValueError(f"{shard}: two members named {name}")
    samples[key][extension] = content
