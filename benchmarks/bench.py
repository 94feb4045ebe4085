"""All ratios that are watched, in one run, beside the recorded ones.

    python benchmarks/bench.py [--only WORD ...] [--rounds 3] [--record]

Each figure is CPU time over that of plain work of the same size, which takes turns with it in one
process, or memory over that of the inputs; less is better. One thread. All figures are measured in
turn, as often as there are rounds; the median counts. A figure is worse than the recorded one where
even its best round is more than 10 % and the recorded spread above it; then it is measured once
more, and the exit status is 1 if that does not help. ``--record`` writes `recorded.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import input
import loss
import retrieval_scale
import small
import torch
from shared import peak_in_fork

import tauten as tt
from tauten.evaluation import ranks

RECORDED = Path(__file__).with_name("recorded.json")
#: CPU seconds of the plain work of a ratio
SECONDS = 0.1
#: share by which a figure may be worse before it is said
NOISE = 0.1
COMMANDS = {
    "--help": ["--help"],
    "recipes": ["recipes"],
    "train NAME --help": ["train", "emoji_infonce_constant", "--help"],
}
MIB = 2**20


class Recorded(NamedTuple):
    """The median of a figure's rounds, and the largest less the smallest of them."""

    median: float
    spread: float


def small_batch(name: str, batch: int) -> float:
    """Return a loss's CPU time over that of its plain form."""
    ours, plain = small.PAIRS[name](batch, torch.arange(batch))
    return small.compare(ours, plain, *small.embeddings(batch, 256), SECONDS)[0]


def second_step() -> float:
    """Return iSogCLR's second step over its tenth, from its published τ of 0.01."""
    loss_fn, index = tt.iSogCLR(1024), torch.arange(1024)
    x, y = small.embeddings(1024, 256)
    spent = []
    for _ in range(10):
        x.grad = y.grad = None
        start = time.process_time()
        loss_fn(x, y, index).backward()
        loss_fn.step()
        spent.append(time.process_time() - start)
    return spent[1] / statistics.median(spent[7:])


def command(arguments: Sequence[str]) -> float:
    """Return the CPU time of a command over that of ``import torch``."""
    program = "import sys; from tauten.cli import main; sys.exit(main())"
    return _child(program, *arguments) / _child("import torch")


def _child(program: str, *arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def tar_index(way: str) -> float:
    """Return the CPU time of the index of a tar over that of ``tarfile``."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.tar"
        input.write_tar(path, 5000, way)
        return statistics.median(quick / slow for quick, slow in input.index_times(path, 3))


def retrieval(both: bool) -> float:
    """Return the CPU time of the ranks of 2,000 queries over that of their products alone."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 256, generator=generator)
    y = x.repeat(4, 1) + torch.randn(8000, 256, generator=generator)
    y_of_x = [[i, i + 2000, i + 4000, i + 6000] for i in range(2000)]
    directions = ("x2y", "y2x") if both else ("x2y",)
    ratios = []
    for _ in range(3):
        start = time.process_time()
        ranks(x, y, y_of_x, tile=2048, one_pass=both, directions=directions)
        ours = time.process_time()
        retrieval_scale.products(x, y, 2048, None)
        ratios.append((ours - start) / (time.process_time() - ours))
    return statistics.median(ratios)


def tiled(control: str) -> float:
    """Return the CPU time of a loss of 2,048 pairs in tiles over that of four products."""
    index = torch.arange(2048)
    run, plain = loss.tauten_with("auto", control), loss.four_products
    ratios = []
    for _ in range(4):
        x, y = small.embeddings(2048, 512)
        start = time.process_time()
        run(x, y, index)
        ours = time.process_time()
        plain(x, y, index)
        ratios.append((ours - start) / (time.process_time() - ours))
    return statistics.median(ratios[1:])


def memory() -> float:
    """Return the MiB that a loss of 8,192 pairs takes in tiles, over those of its inputs."""

    def start() -> Callable[[], object]:
        run = loss.tauten_with("auto", "mmts")
        run(*small.embeddings(8, 256), torch.arange(8))
        x, y = small.embeddings(8192, 256)
        index = torch.arange(8192)
        return lambda: run(x, y, index)

    return peak_in_fork(start) / (2 * 8192 * 256 * 4 / MIB)


def figures() -> dict[str, Callable[[], float]]:
    """Return what measures each figure once."""
    every: dict[str, Callable[[], float]] = {
        f"{name}, B = {batch} / plain": partial(small_batch, name, batch)
        for name in small.PAIRS
        for batch in (64, 256, 512, 1024)
    }
    for where, tile in (("whole", "dense"), ("tiles", (512, 768))):
        every[f"won batch, τ = 0.01 / 0.07, {where}"] = partial(small.won, 1024, tile, SECONDS)
    every["iSogCLR, second step / tenth"] = second_step
    for name, arguments in COMMANDS.items():
        every[f"tauten {name} / import torch"] = partial(command, arguments)
    for way in input.WAYS:
        every[f"index of a tar ({way}) / tarfile"] = partial(tar_index, way)
    every["retrieval, x2y / products"] = partial(retrieval, False)
    every["retrieval, both ways / products"] = partial(retrieval, True)
    for control in ("constant", "mmts"):
        every[f"InfoNCE in tiles, {control} / four products"] = partial(tiled, control)
    every["InfoNCE in tiles, memory / inputs"] = memory
    return every


def is_worse(rounds: Sequence[float], recorded: Recorded) -> bool:
    """Return whether even the best round is worse than the recorded ones by more than noise."""
    return min(rounds) > recorded.median * (1 + NOISE) + recorded.spread


def verdict(rounds: Sequence[float], recorded: Recorded | None) -> str:
    """Return a figure's word beside the recorded one."""
    if recorded is None:
        return "new"
    if is_worse(rounds, recorded):
        return "WORSE"
    better = max(rounds) < recorded.median * (1 - NOISE) - recorded.spread
    return "better" if better else ""


def read(path: Path) -> dict[str, Recorded]:
    """Return the recorded figures."""
    stored = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return {name: Recorded(*numbers) for name, numbers in stored.get("figures", {}).items()}


def write(path: Path, measured: Mapping[str, Sequence[float]]) -> None:
    """Record figures, and leave those that were not measured as they are."""
    figures = read(path)
    for name, rounds in measured.items():
        median, spread = statistics.median(rounds), max(rounds) - min(rounds)
        figures[name] = Recorded(round(median, 3), round(spread, 3))
    ordered = dict(sorted(figures.items()))
    load = round(os.getloadavg()[0], 1)
    machine = {"torch": torch.__version__, "cores": os.cpu_count(), "load": load}
    content = {**machine, "figures": ordered}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="figures, by a part of the name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {
        name: run
        for name, run in figures().items()
        if not options.only or any(part in name for part in options.only)
    }
    recorded = {} if options.record else read(RECORDED)
    measured: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(options.rounds):
        for name, run in chosen.items():
            measured[name].append(run())
    worse = [n for n, r in measured.items() if n in recorded and is_worse(r, recorded[n])]
    for name in worse:
        measured[name].append(chosen[name]())
    print(f"torch {torch.__version__}, one thread, load {os.getloadavg()[0]:.1f}; less is better")
    print(f"{'':52}{'now':>8}{'spread':>8}{'recorded':>10}")
    for name, rounds in measured.items():
        before = recorded.get(name)
        shown = "" if before is None else f"{before.median:.2f}"
        line = f"{name:52}{statistics.median(rounds):8.2f}{max(rounds) - min(rounds):8.2f}"
        print(f"{line}{shown:>10}  {verdict(rounds, before)}".rstrip())
    if options.record:
        write(RECORDED, measured)
        return 0
    worse = [n for n in worse if is_worse(measured[n], recorded[n])]
    print(f"{len(worse)} of {len(measured)} figures are worse than recorded by more than noise")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
