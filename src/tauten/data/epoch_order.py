"""The order in which an epoch gives the samples of shards: a function of seed and epoch."""

import numpy as np
import numpy.typing as npt

from tauten.data.catalogue import Catalogue

Ints = npt.NDArray[np.int64]


class EpochOrder:
    """Shuffled runs of neighbouring samples, shuffled again within windows of runs.

    A run is `run` consecutive samples of a tar, or a row group of a parquet file. The runs of all
    shards are put in random order; as many as fit into `buffer` samples make a window, and the
    samples of a window are put in random order: what a shuffle buffer does, without a buffer. Any
    stretch of the order can be had at once, so that a position in it is all there is to save.

    The random numbers are those of the counter-based generator Philox (Salmon et al., Parallel
    Random Numbers: As Easy as 1, 2, 3, SC 2011): the same on every machine.

    Args:
        catalogue: catalogue of N samples.
        seed: 0 or more.
        epoch: 0 or more.
        buffer: most samples of a window.
        run: samples of a tar that stay together; 1 shuffles single samples, whatever the buffer.
        shuffle: False for the order of ids.

    Raises:
        ValueError: a negative seed or epoch; not 1 <= run <= buffer; a row group larger than the
            buffer.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        seed: int,
        epoch: int,
        buffer: int,
        run: int,
        shuffle: bool = True,
    ) -> None:
        if min(seed, epoch) < 0:
            raise ValueError(f"seed and epoch must be at least 0, got {seed} and {epoch}")
        if not 1 <= run <= buffer:
            raise ValueError(f"need 1 <= run <= buffer, got run = {run}, buffer = {buffer}")
        self._key = (seed, epoch)
        self._shuffle = shuffle
        starts, sizes = _runs(catalogue, run)
        if int(sizes.max()) > buffer:
            raise ValueError(
                f"a row group has {int(sizes.max())} rows, more than the buffer of {buffer} "
                "samples: raise buffer, or write the file with smaller row groups"
            )
        if shuffle:
            order = self._random_order(len(sizes), 0)
            starts, sizes = starts[order], sizes[order]
        self._starts, self._sizes = starts, sizes
        self._windows = _windows(sizes, buffer)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        self.bounds: Ints = ends[self._windows]
        self._recent: dict[int, Ints] = {}

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def ids(self, start: int, stop: int) -> Ints:
        """Return the ids at positions start .. stop - 1 of the epoch."""
        first = int(np.searchsorted(self.bounds, start, side="right")) - 1
        parts = []
        for w in range(first, len(self.bounds) - 1):
            begin = int(self.bounds[w])
            if begin >= stop:
                break
            parts.append(self._window(w)[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def _window(self, number: int) -> Ints:
        """Return the ids of one window, in order; the latest two are kept."""
        if number not in self._recent:
            if len(self._recent) == 2:
                self._recent.pop(min(self._recent))
            self._recent[number] = self._shuffled(number)
        return self._recent[number]

    def _shuffled(self, number: int) -> Ints:
        runs = slice(self._windows[number], self._windows[number + 1])
        starts, sizes = self._starts[runs], self._sizes[runs]
        before = np.cumsum(sizes) - sizes
        ids: Ints = np.repeat(starts - before, sizes) + np.arange(sizes.sum())
        return ids[self._random_order(len(ids), number + 1)] if self._shuffle else ids

    def _random_order(self, size: int, purpose: int) -> Ints:
        seed, epoch = self._key
        generator = np.random.Philox(key=seed, counter=[0, purpose, epoch, 0])
        return np.argsort(generator.random_raw(size), kind="stable")


def _runs(catalogue: Catalogue, run: int) -> tuple[Ints, Ints]:
    """Return first id and size of every run, in the order of ids."""
    starts, sizes = [], []
    for shard, first in zip(catalogue.shards, catalogue.first, strict=False):
        inside = shard.bounds if shard.kind == "parquet" else np.arange(0, len(shard) + run, run)
        inside = np.minimum(inside, len(shard))
        starts.append(first + inside[:-1])
        sizes.append(np.diff(inside))
    start, size = np.concatenate(starts), np.concatenate(sizes)
    return start[size > 0], size[size > 0]


def _windows(sizes: Ints, buffer: int) -> Ints:
    """Return numbers of the first run of each window, and of one past the last."""
    first, held = [0], 0
    for number, size in enumerate(sizes.tolist()):
        if held + size > buffer:
            first.append(number)
            held = 0
        held += size
    return np.array([*first, len(sizes)], dtype=np.int64)
