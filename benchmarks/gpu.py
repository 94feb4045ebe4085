"""Losses on a CUDA device: plain torch, dense, tiled and Triton kernels side by side.

    python benchmarks/gpu.py [--batches 2048 8192 32768] [--dim 512] [--rounds 10]

Forward and backward from embeddings to embedding gradients, bfloat16 and float32. Times are the
median of the rounds, interleaved after a warm-up that also compiles; memory is the peak above the
inputs; ratios are to the first contender. Values and gradients are compared with the dense loss in
float64 at the smallest batch.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor
from torch.nn import functional as F

import tauten as tt
from tauten.pairwise.engine import Tile

MIB = 2**20
TILES: dict[str, Tile] = {
    "dense": "dense",
    "tiled": (512, 768),
    "tiled 4096": 4096,
    "triton": "triton",
}
Contender = Callable[[Tensor, Tensor], Tensor]


def strength(batch: int) -> tt.Control:
    """A temperature or margin in [0.05, 0.2] for each sample."""
    counts = torch.randint(1, 1000, (batch,), generator=torch.Generator().manual_seed(1))
    return tt.ClusterShift(counts, low=0.05, high=0.2)


def plain_torch(batch: int, device: str) -> Contender:
    """InfoNCE as it is mostly written: the product in the embeddings' type, the rest in float32."""
    index = torch.arange(batch)
    tau, target = strength(batch).at(index).to(device).unsqueeze(1), index.to(device)

    def run(x: Tensor, y: Tensor) -> Tensor:
        sim = (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).float()
        return (F.cross_entropy(sim / tau, target) + F.cross_entropy(sim.T / tau, target)) / 2

    return run


def loss_of(kind: str, tile: Tile, batch: int, device: str) -> Contender:
    made = {"InfoNCE": tt.InfoNCE, "SigLIP": tt.SigLIP, "MaxMargin": tt.MaxMargin}[kind]
    loss_fn = made(strength(batch), tile=tile).to(device)
    index = torch.arange(batch, device=device)
    return lambda x, y: loss_fn(x, y, index)


def contenders(kind: str, batch: int, device: str) -> dict[str, Contender]:
    found = {"plain torch": plain_torch(batch, device)} if kind == "InfoNCE" else {}
    return found | {name: loss_of(kind, tile, batch, device) for name, tile in TILES.items()}


def embeddings(batch: int, dim: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, dim, generator=generator)
    y = x + torch.randn(batch, dim, generator=generator)
    x, y = (v.to(device, dtype).requires_grad_() for v in (x, y))
    return x, y


def run(contender: Contender, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    loss = contender(x, y)
    grad_x, grad_y = torch.autograd.grad(loss, (x, y))
    return loss.detach(), grad_x, grad_y


def timed(contender: Contender, x: Tensor, y: Tensor) -> tuple[float, float]:
    """Milliseconds and peak MiB above what is held before."""
    if x.device.type != "cuda":
        start = time.perf_counter()
        run(contender, x, y)
        return 1000 * (time.perf_counter() - start), 0.0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.synchronize()
    start = time.perf_counter()
    run(contender, x, y)
    torch.cuda.synchronize()
    spent = 1000 * (time.perf_counter() - start)
    return spent, (torch.cuda.max_memory_allocated() - before) / MIB


def measure(
    named: dict[str, Contender], x: Tensor, y: Tensor, rounds: int
) -> dict[str, tuple[float, float]]:
    """Median milliseconds and peak MiB of each whose memory suffices."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in named}
    for _ in range(rounds + 1):
        for name in list(found):
            try:
                found[name].append(timed(named[name], x, y))
            except torch.OutOfMemoryError:
                del found[name]
                torch.cuda.empty_cache()
    return {
        name: (statistics.median(t for t, _ in each[1:]), max(m for _, m in each[1:]))
        for name, each in found.items()
    }


def table(kind: str, batch: int, dtype: torch.dtype, device: str, args: argparse.Namespace) -> None:
    x, y = embeddings(batch, args.dim, dtype, device)
    named = contenders(kind, batch, device)
    found = measure(named, x, y, args.rounds)
    base = found.get(next(iter(named)), (math.nan, math.nan))
    print(f"\n{kind}, B = {batch}, d = {args.dim}, {str(dtype)[6:]}")
    print(f"{'':14}{'ms':>10}{'ratio':>8}{'peak MiB':>11}{'ratio':>8}")
    for name in named:
        if name not in found:
            print(f"{name:14}  out of memory")
            continue
        spent, peak = found[name]
        memory = peak / base[1] if base[1] else math.nan
        print(f"{name:14}{spent:10.2f}{spent / base[0]:8.2f}{peak:11.0f}{memory:8.2f}")


def differences(
    kind: str, batch: int, dtype: torch.dtype, device: str, args: argparse.Namespace
) -> None:
    """Largest differences from the dense loss in float64, of gradients over the largest one."""
    x, y = embeddings(batch, args.dim, dtype, device)
    wide = [v.detach().double().requires_grad_() for v in (x, y)]
    exact = run(loss_of(kind, "dense", batch, device), *wide)
    print(f"\n{kind}, B = {batch}, {str(dtype)[6:]}: difference from float64")
    print(f"{'':14}{'value':>10}{'gradient / largest':>20}")
    for name, contender in contenders(kind, batch, device).items():
        found = run(contender, x, y)
        value = abs(float(found[0]) - float(exact[0]))
        worst = max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(found[1:], exact[1:], strict=True)
        )
        print(f"{name:14}{value:10.1e}{worst:20.1e}")
    again = [run(loss_of(kind, "triton", batch, device), x, y) for _ in range(2)]
    equal = all(torch.equal(a, b) for a, b in zip(*again, strict=True))
    print(f"two runs of triton agree to the bit: {equal}")


def device_of(args: argparse.Namespace) -> str:
    if args.dry_run:
        return "cpu"
    if not torch.cuda.is_available():
        sys.exit(f"benchmarks/gpu.py needs a CUDA device; torch {torch.__version__} finds none")
    return "cuda"


def triton_version() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:
        sys.exit("benchmarks/gpu.py needs triton: pip install 'tauten[triton]'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[2048, 8192, 32768])
    parser.add_argument("--dim", type=int, default=512, help="embedding width")
    parser.add_argument("--rounds", type=int, default=10, help="timed rounds after one warm-up")
    parser.add_argument("--dry-run", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = device_of(args)
    if args.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
        args.batches, args.dim, args.rounds = [48, 64], 16, 1
    name = (
        torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()}, interpreted"
    )
    print(f"{name}; torch {torch.__version__}, triton {triton_version()}")
    # the interpreter multiplies the bits of bfloat16 as integers
    dtypes = [torch.float16 if args.dry_run else torch.bfloat16, torch.float32]
    kinds = ["InfoNCE", "SigLIP", "MaxMargin"]
    for kind in kinds:
        for dtype in dtypes:
            differences(kind, min(args.batches), dtype, device, args)
    for kind in kinds:
        for batch in args.batches:
            for dtype in dtypes:
                table(kind, batch, dtype, device, args)


if __name__ == "__main__":
    main()
