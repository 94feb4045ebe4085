"""Exact ranks of many queries against many candidates, both ways: time, throughput and memory.

    python benchmarks/retrieval_scale.py [--queries 100000] [--candidates 1000000] [--dim 256]
        [--tile 4096] [--slab 8192] [--rounds 3] [--threads N] [--folder DIR]

Embeddings are drawn block by block into .npy files in a temporary folder and are memory-mapped: a
mixture of Gaussians, each candidate a noisy copy of the query that it matches. Speed and memory are
measured, not quality. First a slab of the queries and their candidates is ranked side by side with
plain work of the same size, held in memory: the products of its tiles alone, and the products with
one comparison and sum. Times are interleaved, and the median of the rounds is printed with its
ratio to both. Then everything is ranked in one pass in a process of its own, with a file to resume
from. Memory is the most that this process allocated above what it held before, sampled every 20
milliseconds; pages of the mapped files are not counted. Linux only.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from shared import Allocated
from torch import Tensor
from torch.nn import functional as F

from tauten.evaluation import ranks

MIB = 2**20
BLOCK = 65536
CENTRES = 1000


def owner_of(candidates: int, queries: int) -> np.ndarray:
    """The query that each candidate matches, in equal shares."""
    return np.arange(candidates) * queries // candidates


def write(folder: Path, queries: int, candidates: int, dim: int) -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, dim), dtype=np.float32)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (queries, dim))
    y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.float32, (candidates, dim))
    for start in range(0, queries, BLOCK):
        rows = x[start : start + BLOCK]
        rows[:] = centres[rng.integers(0, CENTRES, len(rows))]
        rows += 0.7 * rng.standard_normal(rows.shape, dtype=np.float32)
    owners = owner_of(candidates, queries)
    for start in range(0, candidates, BLOCK):
        rows = y[start : start + BLOCK]
        rows[:] = x[owners[start : start + BLOCK]]
        rows += rng.standard_normal(rows.shape, dtype=np.float32)


def mapped(folder: Path) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    x, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "xy")
    starts = np.searchsorted(owner_of(len(y), len(x)), np.arange(len(x) + 1)).tolist()
    return x, y, [list(range(*pair)) for pair in itertools.pairwise(starts)]


def products(x: Tensor, y: Tensor, tile: int, bar: Tensor | None) -> None:
    """Every tile of the scores; with a bar each query's scores that reach it are counted."""
    for start in range(0, len(x), tile):
        rows = x[start : start + tile]
        for left in range(0, len(y), tile):
            sim = rows @ y[left : left + tile].T
            if bar is not None:
                (sim >= bar[start : start + tile]).sum(dim=1)


def slab(folder: Path, options: argparse.Namespace) -> None:
    """Medians of a small part of the work, beside plain work of that size."""
    x, y, y_of_x = mapped(folder)
    queries = min(options.slab, len(x))
    y_of_x = y_of_x[:queries]
    x, y = x[:queries], y[: y_of_x[-1][-1] + 1]
    unit_x, unit_y = (F.normalize(torch.tensor(rows), dim=1) for rows in (x, y))
    bar = (unit_x * unit_y[[own[0] for own in y_of_x]]).sum(dim=1, keepdim=True)
    tile = options.tile

    def ranked(**settings: object) -> Callable[[], object]:
        return lambda: ranks(x, y, y_of_x, tile=tile, **settings)  # type: ignore[arg-type]

    runs: dict[str, Callable[[], object]] = {
        "products alone": lambda: products(unit_x, unit_y, tile, None),
        "products, compared one way": lambda: products(unit_x, unit_y, tile, bar),
        "ranks, x2y": ranked(directions=["x2y"]),
        "ranks, both ways, two passes": ranked(),
        "ranks, both ways, one pass": ranked(one_pass=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    alone, compared = list(medians.values())[:2]
    print(f"\n{len(x)} queries, {len(y)} candidates, medians of {options.rounds} rounds")
    print(f"{'':30}{'seconds':>9}{'/ products':>12}{'/ compared one way':>20}")
    for name, spent in medians.items():
        print(f"{name:30}{spent:9.2f}{spent / alone:12.2f}{spent / compared:20.2f}")


def everything(folder: Path, options: argparse.Namespace) -> None:
    x, y, y_of_x = mapped(folder)
    ranks(x[:64], y[:64], range(64))
    with Allocated() as allocated:
        start = time.perf_counter()
        found = ranks(
            x,
            y,
            y_of_x,
            tile=options.tile,
            one_pass=True,
            resume=folder / "state",
            progress=True,
        )
        seconds = time.perf_counter() - start
    pairs = len(x) * len(y)
    print(f"\n{len(x)} queries, {len(y)} candidates, both ways, one pass, resumable")
    print(f"seconds                       {seconds:10.1f}")
    print(f"million scores a second       {pairs / seconds / 1e6:10.0f}")
    print(f"queries a second, both ways   {(len(x) + len(y)) / seconds:10.0f}")
    print(f"MiB allocated at most         {allocated.above:10.0f}")
    print(f"MiB of the mapped inputs      {(x.nbytes + y.nbytes) / MIB:10.0f}")
    print(f"MiB of the file of the state  {(folder / 'state').stat().st_size / MIB:10.1f}")
    medians = {name: int(one.best.median()) for name, one in found.items()}
    print(f"median ranks (of drawn data)  {json.dumps(medians)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--tile", type=int, default=4096)
    parser.add_argument("--slab", type=int, default=8192, help="queries timed beside plain work")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--only", choices=["slab", "everything"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only:
        {"slab": slab, "everything": everything}[options.only](options.folder, options)
        return
    if options.candidates < options.queries:
        parser.error("every query needs a match: give at least as many candidates as queries")
    print(f"torch {torch.__version__}, {options.threads} threads, d = {options.dim}", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write(Path(folder), options.queries, options.candidates, options.dim)
        for part in ("slab", "everything"):
            again = [*sys.argv[1:], "--folder", folder, "--only", part]
            subprocess.run([sys.executable, __file__, *again], check=True)


if __name__ == "__main__":
    main()
