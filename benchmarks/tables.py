"""What a step costs in a table of ten thousand samples, of a million, and of a hundred million.

    python benchmarks/tables.py [--samples 100000000] [--rows 4096] [--rounds 200] [--threads 1]

A step reads four columns of random rows and writes them back, on the CPU. Every round does one step
in each table, with fresh rows; the median of the rounds is printed, as a ratio to the smallest
table of the same round too. Resident memory is what the process grew by when the table was built,
and peak memory what it grew by at most while it was. --samples sets the largest table, for a
machine with less memory; Linux only.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import resource
import statistics
import time
from pathlib import Path

import torch

import tauten as tt

COLUMNS = {"log_u": -math.inf, "tau": 0.05, "momentum": 0.0, "weight": 1.0}
SIZES = (10_000, 1_000_000)
MIB = 2**20


def resident() -> float:
    """MiB of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def peak() -> float:
    """MiB of this process in memory at most so far."""
    return max(resident(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def available() -> float:
    """MiB that can be taken without swapping."""
    found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(found[1]) / 1024 if found else math.inf


def needed(samples: int) -> float:
    """MiB of the four float32 columns and the int32 visits."""
    return samples * (len(COLUMNS) + 1) * 4 / MIB


def step(table: tt.SampleTable, ids: torch.Tensor) -> float:
    """Seconds to read these rows and to write them back."""
    start = time.perf_counter()
    table.write(ids, table.read(ids))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000_000, help="of the largest table")
    parser.add_argument("--rows", type=int, default=4096, help="rows of a step")
    parser.add_argument("--rounds", type=int, default=200, help="timed rounds after ten others")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.samples < options.rows or min(SIZES) < options.rows:
        parser.error(f"{options.rows} distinct rows need a table of at least as many samples")
    sizes = [*(size for size in SIZES if size < options.samples), options.samples]
    if sum(map(needed, sizes)) > available():
        parser.error(
            f"the tables need {sum(map(needed, sizes)):.0f} MiB and {available():.0f} MiB are "
            "free: pass a smaller --samples"
        )
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, threads: {options.threads}, rows: {options.rows}")
    step(tt.SampleTable(options.rows, COLUMNS), torch.arange(options.rows))
    tables, grown = [], []
    for size in sizes:
        before = resident()
        tables.append(tt.SampleTable(size, COLUMNS, device="cpu"))
        grown.append((resident() - before, peak() - before))
    rng = random.Random(0)
    seconds: list[list[float]] = [[] for _ in tables]
    for turn in range(options.rounds + 10):
        for table, spent in zip(tables, seconds, strict=True):
            taken = step(table, torch.tensor(rng.sample(range(len(table)), options.rows)))
            if turn >= 10:
                spent.append(taken)
    print(f"{'samples':>12}{'ms a step':>11}{'ratio':>8}{'resident MiB':>14}{'peak MiB':>10}")
    for size, spent, (stays, most) in zip(sizes, seconds, grown, strict=True):
        ratio = statistics.median(a / b for a, b in zip(spent, seconds[0], strict=True))
        milliseconds = 1000 * statistics.median(spent)
        print(f"{size:12,}{milliseconds:11.2f}{ratio:8.2f}{stays:14.1f}{most:10.1f}")
    print(f"after all rounds: {resident():.0f} MiB resident in the whole process")


if __name__ == "__main__":
    main()
