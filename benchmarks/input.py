"""Index of a tar against ``tarfile``, and batches from shards against a training step.

    python benchmarks/input.py [--members 20000] [--rounds 5] [--batch 32] [--size 224] [--steps 2]

A tar of pictures and texts is written in each of three ways, GNU, pax, and pax with a header of its
own before each member, as Python's ``tar.add`` does it. The index that `index_shards` makes and the
same index by ``tarfile`` take turns in one process, and CPU time is counted; both must be equal.

Batches of JPEGs of 500 x 375 pixels with captions come from a tar, without workers and with one.
CPU time of the process that trains is counted, of loader and store, and set against forward and
backward of a ResNet-18 of pictures of this size, on one thread.
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

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tauten.data import ShardPairs, index_shards, tar_index
from tauten.data.tar_headers import UnusualTarError
from tauten.models import BagTokenizer, ResNetTower
from tauten.training.stores.shards import ShardStore

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


def write_photos(path: Path, count: int) -> None:
    """Write a tar of smooth random photos, each with a caption."""
    draw = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:
        for i in range(count):
            noise = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            content = io.BytesIO()
            Image.fromarray(noise).resize((500, 375)).save(content, "JPEG", quality=90)
            parts = {"jpg": content.getvalue(), "txt": f"photo {i} of a cat on a mat".encode()}
            for extension, part in parts.items():
                info = tarfile.TarInfo(f"{i:06d}.{extension}")
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))


def assembled(store: ShardStore, batch: int, steps: int) -> float:
    """Return CPU seconds a batch that the process that trains spends on reading and making it."""
    reads = store.reads(0)
    loader = DataLoader(
        reads, batch, drop_last=True, collate_fn=reads.collate, num_workers=reads.workers
    )
    times = []
    waiting = iter(loader)
    for _ in range(steps + 1):
        begin = time.process_time()
        part = next(waiting)
        store.batch(part["index"].positions, part["reading"])
        times.append(time.process_time() - begin)
    return statistics.median(times[1:])  # the first starts workers


def batches(batch: int, size: int, steps: int) -> None:
    """Print the share of a step that making its batch takes."""
    tower = ResNetTower(18).train()

    def step() -> None:
        tower(torch.rand(batch, 3, size, size)).square().sum().backward()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photos.tar"
        write_photos(path, batch * (steps + 2))
        pairs = ShardPairs(index_shards(path, Path(folder) / "found.jsonl"), image_size=size)
        words = BagTokenizer.fit(["photo of a cat on a mat"])
        made = [assembled(ShardStore(pairs, words, workers=n), batch, steps) for n in (0, 1)]
    seconds = statistics.median(timed(step)[0] for _ in range(steps))
    print(f"step of a ResNet-18, {batch} pictures of {size} pixels: {1e3 * seconds:.0f} ms")
    for name, value in zip(("in the process that trains", "with a worker"), made, strict=True):
        print(f"batch, {name}: {1e3 * value:.1f} ms, {value / seconds:.2%} of the step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    index(arguments.members, arguments.rounds)
    batches(arguments.batch, arguments.size, arguments.steps)


if __name__ == "__main__":
    main()
