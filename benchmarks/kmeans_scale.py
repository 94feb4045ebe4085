"""k-means of a memory-mapped file against raw faiss: time, throughput and memory.

    python benchmarks/kmeans_scale.py [--rows 10000000] [--dim 384] [--k 1000] [--iterations 20]
        [--block 65536] [--type float32] [--threads N] [--folder DIR]

Embeddings are drawn block by block into one .npy file in a temporary folder: a mixture of
Gaussians. Speed and memory are measured, not quality. Both contenders fit centroids on a random
sample of 256 rows a centroid and assign all rows, block by block, each in a process of its own and
with the file out of the page cache: raw faiss with its `Kmeans` (spherical, started at random rows)
and `index.search` over the rows as they are; `tauten.structure.kmeans` with a greedy k-means++
start, rows checked and scaled in float64, and a folder to resume from. Memory is the most that a
process allocated above what it held before, sampled every 20 milliseconds; pages of mapped files
are not counted. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import torch
from shared import Allocated

from tauten.structure import kmeans

CENTRES = 2000
POINTS = 256


def write(path: Path, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, options.dim), dtype=np.float32)
    shape = (options.rows, options.dim)
    x = np.lib.format.open_memmap(path, "w+", np.dtype(options.type), shape)
    for start in range(0, options.rows, options.block):
        rows = min(options.block, options.rows - start)
        drawn = centres[rng.integers(0, CENTRES, rows)]
        drawn += 0.7 * rng.standard_normal(drawn.shape, dtype=np.float32)
        x[start : start + rows] = drawn
    x.flush()


def forget(path: Path) -> None:
    """Let the system drop the file's pages, so that each contender reads it anew."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def raw(x: np.ndarray, options: argparse.Namespace) -> tuple[np.ndarray, dict[str, float]]:
    start = time.perf_counter()
    rng = np.random.default_rng(0)
    most = min(len(x), POINTS * options.k)
    sample = x[np.sort(rng.choice(len(x), most, replace=False))].astype(np.float32)
    faiss.normalize_L2(sample)
    fitted = faiss.Kmeans(
        x.shape[1],
        options.k,
        niter=options.iterations,
        spherical=True,
        seed=1,
        max_points_per_centroid=POINTS,
    )
    fitted.train(sample)
    middle = time.perf_counter()
    del sample
    assignment = np.empty(len(x), np.int64)
    for left in range(0, len(x), options.block):
        block = np.ascontiguousarray(x[left : left + options.block], dtype=np.float32)
        assignment[left : left + options.block] = fitted.index.search(block, 1)[1][:, 0]
    end = time.perf_counter()
    return assignment, {"fit": middle - start, "assignment": end - middle}


def streamed(x: np.ndarray, options: argparse.Namespace) -> tuple[np.ndarray, dict[str, float]]:
    folder = options.folder / "state"
    start = time.perf_counter()
    found = kmeans(
        x, options.k, iterations=options.iterations, starts=1, block=options.block, resume=folder
    )
    fitted = (folder / "centroids.npz").stat().st_mtime - (time.time() - time.perf_counter())
    spent = {"fit": fitted - start, "assignment": time.perf_counter() - fitted}
    return found.assignment.numpy(), spent


CONTENDERS = {"raw faiss": raw, "tauten": streamed}


def contend(name: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds, MiB and clusters of one contender, in this process."""
    x = np.load(options.folder / "x.npy", mmap_mode="r")
    faiss.omp_set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    with Allocated() as allocated:
        assignment, seconds = CONTENDERS[name](x, options)
    smallest = int(np.bincount(assignment, minlength=options.k).min())
    return {**seconds, "MiB": allocated.above, "smallest": smallest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--k", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--block", type=int, default=65536)
    parser.add_argument("--type", choices=["float16", "float32"], default="float32")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--only", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(contend(options.only, options)))
        return
    print(
        f"faiss {faiss.__version__}, {options.threads} threads; {options.rows} rows of "
        f"{options.dim} {options.type}, k = {options.k}",
        flush=True,
    )
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "x.npy"
        write(path, options)
        print(f"file: {path.stat().st_size / 2**20:.0f} MiB", flush=True)
        for name in CONTENDERS:
            forget(path)
            again = [*sys.argv[1:], "--folder", folder, "--only", name]
            done = subprocess.run(
                [sys.executable, __file__, *again], check=True, stdout=subprocess.PIPE, text=True
            )
            found[name] = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{'':12}{'fit s':>9}{'assign s':>10}{'total s':>9}{'/ raw':>7}", end="")
    print(f"{'rows/s':>10}{'MiB':>7}{'smallest':>10}")
    totals = {name: one["fit"] + one["assignment"] for name, one in found.items()}
    for name, one in found.items():
        print(f"{name:12}{one['fit']:9.1f}{one['assignment']:10.1f}{totals[name]:9.1f}", end="")
        print(f"{totals[name] / totals['raw faiss']:7.2f}", end="")
        print(f"{options.rows / one['assignment']:10.0f}{one['MiB']:7.0f}{one['smallest']:10.0f}")


if __name__ == "__main__":
    main()
