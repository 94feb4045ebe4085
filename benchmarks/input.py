"""Index of a tar against ``tarfile``.

    python benchmarks/input.py [--members 20000] [--rounds 5]

A tar of pictures and texts is written in each of three ways, GNU, pax, and pax with a header of its
own before each member, as Python's ``tar.add`` does it. The index that `index_shards` makes and the
same index by ``tarfile`` take turns in one process, and CPU time is counted; both must be equal.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from tauten.data import tar_index
from tauten.data.tar_headers import UnusualTarError

WAYS = {
    "GNU": (tarfile.GNU_FORMAT, 0.0),
    "pax": (tarfile.PAX_FORMAT, 0.0),
    "pax, times": (tarfile.PAX_FORMAT, 0.5),
}


def write_tar(path: Path, members: int, way: str) -> None:
    """Write a tar of this many members, pictures and texts in turn."""
    format, fraction = WAYS[way]
    with tarfile.open(path, "w", format=format) as tar:
        for i in range(members):
            content = bytes(60 if i % 2 else 2000)
            info = tarfile.TarInfo(f"{i // 2:09d}.{'txt' if i % 2 else 'jpg'}")
            info.size, info.mtime = len(content), 1_700_000_000 + fraction  # type: ignore[assignment]
            tar.addfile(info, io.BytesIO(content))


def refused(*_: Any) -> Any:
    """Leave every tar to ``tarfile``."""
    raise UnusualTarError


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return CPU seconds of a call, and what it gives."""
    begin = time.process_time()
    result = run()
    return time.process_time() - begin, result


def index_times(path: Path, rounds: int) -> list[tuple[float, float]]:
    """Return for each round the CPU seconds of the index of a tar, and by ``tarfile``."""
    times = []
    for _ in range(rounds):
        quick, scan = timed(lambda: tar_index.scan_tar(path))
        with mock.patch.object(tar_index, "usual_members", refused):
            slow, whole = timed(lambda: tar_index.scan_tar(path))
        assert scan == whole
        times.append((quick, slow))
    return times


def index(members: int, rounds: int) -> None:
    """Print microseconds a member and the ratio, for each way of writing a tar."""
    with tempfile.TemporaryDirectory() as folder:
        for way in WAYS:
            path = Path(folder) / "pairs.tar"
            write_tar(path, members, way)
            times = index_times(path, rounds)
            per = [1e6 * statistics.median(column) / members for column in zip(*times, strict=True)]
            ratio = statistics.median(slow / quick for quick, slow in times)
            print(f"index, {way}: {per[0]:.1f} us a member, tarfile {per[1]:.1f} ({ratio:.1f}x)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    index(arguments.members, arguments.rounds)


if __name__ == "__main__":
    main()
