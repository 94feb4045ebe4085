"""InfoNCE with a temperature per sample: time and memory, side by side in one run.

    python benchmarks/loss.py [--batches 1024 4096 8192] [--dim 512] [--rounds 5] [--threads N]
                              [--busy 0]

Forward and backward from embeddings to embedding gradients, float32, on the CPU. Times are
interleaved (every contender once per round) and the median of the rounds is printed, as a ratio to
four plain B x d x B products and to open_clip's loss. Each contender's peak memory above its inputs
is read in a process of its own. Everything is done twice: with the C library's allocator as it is,
which returns large blocks to the system and faults them in again, and told to keep them. With
``--busy 1`` one other process computes beside all of it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from shared import file_of
from torch import Tensor
from torch.nn import functional as F

import tauten as tt
from tauten.pairwise.tiled import TILE

KEEP_BLOCKS = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36)}
MIB = 2**20
Contender = Callable[[Tensor, Tensor, Tensor], None]


def one_product(x: Tensor, y: Tensor, index: Tensor) -> None:
    x.detach() @ y.detach().T


def four_products(x: Tensor, y: Tensor, index: Tensor) -> None:
    a, b = x.detach(), y.detach()
    for _ in range(2):
        s = a @ b.T
    s @ b
    s.T @ a


def tauten_with(tile: str | tuple[int, int], control: str) -> Contender:
    built: dict[int, tt.InfoNCE] = {}

    def run(x: Tensor, y: Tensor, index: Tensor) -> None:
        if len(x) not in built:
            generator = torch.Generator().manual_seed(1)
            counts = torch.randint(1, 1000, (len(x),), generator=generator)
            tau = tt.mmts(counts, alpha=0.04, shift=(0.05, 0.2), period=100)
            built[len(x)] = tt.InfoNCE(tau if control == "mmts" else 0.07, tile=tile)
        built[len(x)](x, y, index).backward()

    return run


def open_clip_written_out(x: Tensor, y: Tensor, index: Tensor) -> None:
    def loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        logits_per_image = scale * image @ text.T
        logits_per_text = scale * text @ image.T
        target = torch.arange(len(image))
        i2t = F.cross_entropy(logits_per_image, target)
        return (i2t + F.cross_entropy(logits_per_text, target)) / 2

    scale = torch.tensor(1 / 0.07, requires_grad=True)
    loss(F.normalize(x, dim=1), F.normalize(y, dim=1), scale).backward()


def open_clip_real() -> Contender | None:
    module = file_of("open_clip", "loss.py")
    if module is None:
        return None
    loss_fn = module.ClipLoss()

    def run(x: Tensor, y: Tensor, index: Tensor) -> None:
        scale = torch.tensor(1 / 0.07, requires_grad=True)
        loss_fn(F.normalize(x, dim=1), F.normalize(y, dim=1), scale).backward()

    return run


def lightly_real() -> Contender | None:
    try:
        from lightly.loss import NTXentLoss  # type: ignore[import-not-found]
    except Exception:
        return None
    loss_fn = NTXentLoss(temperature=0.07)
    return lambda x, y, index: loss_fn(x, y).backward()


def contenders() -> dict[str, Contender]:
    named: dict[str, Contender | None] = {
        "one product": one_product,
        "four products": four_products,
        "tauten dense, MM-TS": tauten_with("dense", "mmts"),
        "tauten tiled, MM-TS": tauten_with(TILE, "mmts"),
        "tauten tiled, one τ": tauten_with(TILE, "constant"),
        "open_clip written out": open_clip_written_out,
        "open_clip ClipLoss": open_clip_real(),
        "lightly NT-Xent": lightly_real(),
    }
    return {name: run for name, run in named.items() if run is not None}


def embeddings(batch: int, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, dim, generator=generator)
    y = x + torch.randn(batch, dim, generator=generator)
    return x.requires_grad_(), y.requires_grad_(), torch.arange(batch)


def times(batch: int, dim: int, rounds: int) -> dict[str, float]:
    """Median seconds of each contender, interleaved."""
    inputs = embeddings(batch, dim)
    runs = contenders()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            inputs[0].grad = inputs[1].grad = None
            start = time.perf_counter()
            run(*inputs)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def memory(batch: int, dim: int, name: str) -> dict[str, float]:
    """Peak MiB above the inputs, and MiB that autograd saves, in this process."""
    run = contenders()[name]
    run(*embeddings(64, dim))
    inputs = embeddings(batch, dim)
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(*inputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"peak": peak / 1024, "saved": sum(saved.values()) / MIB}


def child(arguments: list[str], environment: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def table(batch: int, options: argparse.Namespace, environment: dict[str, str]) -> None:
    common = ["--dim", str(options.dim), "--threads", str(options.threads)]
    seconds = child(
        [*common, "--only-times", str(batch), "--rounds", str(options.rounds)], environment
    )
    used = {
        name: child([*common, "--only-memory", str(batch), name], environment) for name in seconds
    }
    reference, peer = seconds["four products"], seconds["open_clip written out"]
    peer_peak = used["open_clip written out"]["peak"]
    print(f"\nB = {batch}, d = {options.dim}")
    print(
        f"{'':24}{'seconds':>9}{'/ 4 products':>14}{'/ open_clip':>13}"
        f"{'peak MiB':>10}{'/ open_clip':>13}{'saved MiB':>11}"
    )
    for name, spent in seconds.items():
        peak, saved = used[name]["peak"], used[name]["saved"]
        print(
            f"{name:24}{spent:9.3f}{spent / reference:14.2f}{spent / peer:13.2f}"
            f"{peak:10.0f}{peak / peer_peak:13.2f}{saved:11.1f}"
        )


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """So many processes that do nothing but compute."""
    started = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1024, 4096, 8192])
    parser.add_argument("--dim", type=int, default=512, help="embedding width")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds after one warm-up")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--busy", type=int, default=0, help="processes that compute beside it")
    parser.add_argument("--only-times", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only-memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only_times:
        print(json.dumps(times(options.only_times, options.dim, options.rounds)))
    elif options.only_memory:
        batch, name = options.only_memory
        print(json.dumps(memory(int(batch), options.dim, name)))
    else:
        print(
            f"torch {torch.__version__}, {options.threads} threads, {options.busy} busy processes "
            f"beside them, medians of {options.rounds}"
        )
        with neighbours(options.busy):
            for title, environment in (
                ("allocator as it is", {}),
                ("allocator told to keep blocks: " + " ".join(KEEP_BLOCKS), KEEP_BLOCKS),
            ):
                print(f"\n== {title}")
                for batch in options.batches:
                    table(batch, options, environment)


if __name__ == "__main__":
    main()
