"""Every objective's time and memory beside InfoNCE's; costs of own negatives, targets, top-k.

    python benchmarks/family.py [--batch 1024] [--dim 256] [--rounds 7] [--only NCE]
                                [--costs 8192] [--width 512]

Forward and backward from embeddings to embedding gradients, float32, one thread. The first table
walks all losses that ``tauten train`` knows, then what InfoNCE takes beside its pairs, losses of
three modalities, and terms. Each takes turns with InfoNCE in one process, and CPU time is counted,
so that a loaded machine changes the times but hardly the ratios; printed is the median of the
ratios. Peak memory above the inputs is read in a process of its own for each. Slower than B² are
``mannwhitney``, and ``gram``, which holds volumes: they are measured at 256 pairs.

The second table is of ``--costs`` pairs of width ``--width``, InfoNCE in tiles; 0 leaves it out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial

import torch
from contenders import RATE, SMALL, Maker, Step, contenders, infonce, own, sides, step_of
from shared import peak_in_fork

import tauten as tt
from tauten.pairwise.nearest import topk_pairs
from tauten.pairwise.tiled import TILE
from tauten.relations import Kernel, Teacher


def spent(step: Step) -> float:
    """Return the CPU seconds of one step."""
    start = time.process_time()
    step()
    return time.process_time() - start


def in_turn(step: Step, other: Step, rounds: int, warm: int = 1) -> tuple[float, float]:
    """Return the median of the ratios of their CPU times, and the median seconds of the first."""
    for _ in range(warm):
        step(), other()
    pairs = [(spent(step), spent(other)) for _ in range(rounds)]
    ratio = statistics.median(first / second for first, second in pairs)
    return ratio, statistics.median(first for first, _ in pairs)


def peak(make: Maker, batch: int, dim: int) -> float:
    """Return the most MiB above the inputs that a step takes, in a process of its own."""

    def start() -> Step:
        torch.set_num_threads(1)
        make(16, dim)()
        return make(batch, dim)

    return peak_in_fork(start)


def family(options: argparse.Namespace) -> None:
    chosen = {
        name: make
        for name, make in contenders().items()
        if not options.only or any(part in name for part in options.only)
    }
    sizes = {name: min(options.batch, SMALL.get(name, options.batch)) for name in chosen}
    peaks = {name: peak(make, sizes[name], options.dim) for name, make in chosen.items()}
    usual = {size: peak(infonce, size, options.dim) for size in {*sizes.values()}}
    print(f"\n{'':34}{'B':>6}{'ms':>9}{'/ InfoNCE':>11}{'peak MiB':>10}{'/ InfoNCE':>11}")
    for name, make in chosen.items():
        size = sizes[name]
        plain, step = infonce(size, options.dim), make(size, options.dim)
        ratio, seconds = in_turn(step, plain, options.rounds)
        print(
            f"{name:34}{size:6}{1000 * seconds:9.1f}{ratio:11.2f}{peaks[name]:10.1f}"
            f"{peaks[name] / usual[size]:11.2f}",
            flush=True,
        )


def tiled(batch: int, dim: int, word: str = "") -> Step:
    """Return a step of InfoNCE in tiles, with targets of a second pair of embeddings or without."""
    u, v = (side.detach() for side in sides(batch, dim))
    given = {
        "": {},
        "teacher": {"targets": Teacher(u, v, RATE)},
        "kernel": {"targets": Kernel(u, v)},
    }
    return step_of(tt.InfoNCE(RATE, tile=TILE), *sides(batch, dim), **given[word])


def costs(options: argparse.Namespace) -> None:
    size, width, rounds = options.costs, options.width, min(options.rounds, 3)
    makers: dict[str, Maker] = {
        word: partial(tiled, word=word) for word in ("", "teacher", "kernel")
    }
    peaks = {word: peak(make, size, width) for word, make in makers.items()}
    print(f"\nB = {size}, d = {width}, InfoNCE in tiles: {peaks['']:.0f} MiB above the inputs")
    plain = tiled(size, width)
    for word in ("teacher", "kernel"):
        ratio, seconds = in_turn(tiled(size, width, word), plain, rounds)
        print(
            f"  targets of a {word}: {ratio:.2f} times the time ({seconds:.2f} s), "
            f"{peaks[word] / peaks['']:.2f} times the memory",
            flush=True,
        )
    x, y = (side.detach() for side in sides(size, width))
    for count in (1, 10, 100):
        ratio, seconds = in_turn(partial(topk_pairs, x, y, count), lambda: x @ y.T, max(3, rounds))
        print(f"  top {count} of each row: {ratio:.2f} products ({seconds:.2f} s)", flush=True)
    print("\nown negatives, ns for each number of N·K·d above InfoNCE without:")
    for batch, dim, count in (
        (1024, 256, 4),
        (1024, 256, 16),
        (1024, 256, 64),
        (2048, 256, 16),
        (1024, 512, 16),
    ):
        x, y = sides(batch, dim)
        loss_fn = tt.InfoNCE(RATE)
        without = step_of(loss_fn, x, y)
        step = step_of(loss_fn, x, y, negatives=own(batch, count, dim))
        step(), without()
        more = statistics.median(spent(step) - spent(without) for _ in range(options.rounds))
        print(f"  N = {batch}, K = {count:2}, d = {dim}: {1e9 * more / (batch * count * dim):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=256, help="embedding width")
    parser.add_argument("--rounds", type=int, default=7, help="of each contender and InfoNCE")
    parser.add_argument("--only", nargs="+", default=[], help="contenders, by a part of the name")
    parser.add_argument("--costs", type=int, default=8192, help="pairs of the second table")
    parser.add_argument("--width", type=int, default=512, help="embedding width there")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, one thread, B = {options.batch}, d = {options.dim}")
    torch.set_num_threads(1)
    if options.batch:
        family(options)
    if options.costs:
        costs(options)


if __name__ == "__main__":
    main()
