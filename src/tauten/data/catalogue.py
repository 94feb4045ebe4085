"""A catalogue of shards: the samples that each holds, with an integer id for each."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Shard:
    """One file of samples.

    Attributes:
        path: the file.
        size: its bytes when it was read.
        changed: its time of change then, in nanoseconds.
        bounds: bounds of a tar, n + 1 byte offsets, sample i being bounds[i] .. bounds[i + 1]; of a
            parquet file, the first row of each row group, and the number of rows.
        digest: hash of the content.
        damage: what is wrong with a tar whose whole members are used nevertheless, or None.
    """

    path: Path
    size: int
    changed: int
    bounds: npt.NDArray[np.int64]
    digest: str
    damage: str | None = None

    @property
    def kind(self) -> Literal["tar", "parquet"]:
        """Format of the file, read from its name."""
        return "parquet" if self.path.suffix.lower() == ".parquet" else "tar"

    def __len__(self) -> int:
        return int(self.bounds[-1]) if self.kind == "parquet" else len(self.bounds) - 1

    def is_current(self) -> bool:
        """Return whether size and modification time of the file are those that were indexed."""
        status = self.path.stat()
        return (status.st_size, status.st_mtime_ns) == (self.size, self.changed)


class Catalogue:
    """The samples of shards, numbered 0 .. N - 1 by order of shards and position in the shard.

    Args:
        shards: in order.

    Raises:
        ValueError: no samples; a shard given twice.
    """

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = tuple(shards)
        twice = [path for path, n in Counter(shard.path for shard in shards).items() if n > 1]
        if twice:
            raise ValueError(f"{len(twice)} shards are given twice, the first is {twice[0]}")
        self.first: npt.NDArray[np.int64] = np.cumsum([0, *map(len, shards)], dtype=np.int64)
        if len(self) == 0:
            raise ValueError(f"no samples in {len(shards)} shards")

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits: same samples in the same order, same string, wherever they lie.

        Of a tar it covers names and sizes of all members and the content of 16 evenly spaced
        samples; of a parquet file its footer, which has the sizes and statistics of all columns.
        """
        digest = hashlib.sha256()
        for shard in self.shards:
            digest.update(f"{len(shard)} {shard.digest}\n".encode())
        return digest.hexdigest()[:32]

    def locate(self, index: int) -> tuple[Shard, int]:
        """Return the shard of a sample and the sample's position in it.

        Raises:
            IndexError: no such sample.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index}: ids run from 0 to {len(self) - 1}")
        number = int(np.searchsorted(self.first, index, side="right")) - 1
        return self.shards[number], index - int(self.first[number])
