"""Losses on a device: whether they are right, what they take, and whether a graph captures them."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

import tauten as tt
from tauten.pairwise.engine import Tile
from tauten.reads import Questions

if TYPE_CHECKING:
    from gpu import Report

MIB = 2**20
KINDS = {"InfoNCE": tt.InfoNCE, "SigLIP": tt.SigLIP, "MaxMargin": tt.MaxMargin}
Contender = Callable[[Tensor, Tensor], Any]


def strength(batch: int) -> tt.Control:
    """A temperature or margin in [0.05, 0.2] for each sample."""
    counts = torch.randint(1, 1000, (batch,), generator=torch.Generator().manual_seed(1))
    return tt.ClusterShift(counts, low=0.05, high=0.2)


def tiles(args: argparse.Namespace) -> dict[str, Tile]:
    found: dict[str, Tile] = {"dense": "dense", "tiles": 4096}
    return found | ({"triton": "triton"} if args.triton else {})


def types(device: str) -> list[torch.dtype]:
    """Return bfloat16 and float32; the interpreter multiplies the bits of bfloat16 as integers."""
    return [torch.bfloat16 if device == "cuda" else torch.float16, torch.float32]


def plain_torch(batch: int, device: str) -> Contender:
    """InfoNCE as it is mostly written: the product in the embeddings' type, the rest in float32."""
    index = torch.arange(batch)
    tau, target = strength(batch).at(index).to(device).unsqueeze(1), index.to(device)

    def run(x: Tensor, y: Tensor) -> Tensor:
        sim = (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).float()
        return (F.cross_entropy(sim / tau, target) + F.cross_entropy(sim.T / tau, target)) / 2

    return run


def open_clip(batch: int, device: str) -> Contender:
    """The loss of open_clip for one process, transcribed: two products, one scale for all."""
    target, scale = torch.arange(batch, device=device), torch.tensor(1 / 0.07, device=device)

    def run(x: Tensor, y: Tensor) -> Tensor:
        image, text = F.normalize(x, dim=1), F.normalize(y, dim=1)
        factor = scale.to(x.dtype)
        logits_per_image, logits_per_text = factor * image @ text.T, factor * text @ image.T
        i2t, t2i = (
            F.cross_entropy(logits_per_image, target),
            F.cross_entropy(logits_per_text, target),
        )
        return (i2t + t2i) / 2

    return run


def loss_of(kind: str, tile: Tile, batch: int, device: str) -> Contender:
    loss_fn = KINDS[kind](strength(batch), tile=tile).to(device)
    index = torch.arange(batch, device=device)
    return lambda x, y: loss_fn(x, y, index)


def embeddings(
    batch: int, dim: int, dtype: torch.dtype, device: str, noise: float = 1.0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, dim, generator=generator)
    y = x + noise * torch.randn(batch, dim, generator=generator)
    x, y = (v.to(device, dtype).requires_grad_() for v in (x, y))
    return x, y


def both_ways(contender: Contender, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    loss = contender(x, y)
    grad_x, grad_y = torch.autograd.grad(loss, (x, y))
    return loss.detach(), grad_x, grad_y


def timed(work: Callable[[], Any], device: str) -> tuple[float, float]:
    """Return milliseconds and the peak MiB above what is held before."""
    if device != "cuda":
        start = time.perf_counter()
        work()
        return 1000 * (time.perf_counter() - start), 0.0
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    spent = 1000 * (time.perf_counter() - start)
    return spent, (torch.cuda.max_memory_allocated() - before) / MIB


def in_turns(
    named: dict[str, Callable[[], Any]], rounds: int, device: str
) -> dict[str, dict[str, float]]:
    """Return the median milliseconds and the peak MiB of each whose memory suffices."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in named}
    for _ in range(rounds + 1):
        for name in list(found):
            try:
                found[name].append(timed(named[name], device))
            except torch.OutOfMemoryError:
                del found[name]
                torch.cuda.empty_cache()
    return {
        name: {
            "ms": statistics.median(ms for ms, _ in each[1:]),
            "mib": max(mib for _, mib in each[1:]),
        }
        for name, each in found.items()
    }


def right(report: Report, args: argparse.Namespace, device: str) -> None:
    """Largest differences from the dense loss in float64, of gradients over the largest one."""
    batch = min(2048, max(args.batches))
    for kind in KINDS:
        for dtype in types(device):
            if not report.has_time(f"right {kind} {dtype}", 5):
                continue
            # so noisy that margins of 0.05 are missed by some pairs
            x, y = embeddings(batch, args.dim, dtype, device, noise=4.0)
            wide = [v.detach().double().requires_grad_() for v in (x, y)]
            exact = both_ways(loss_of(kind, "dense", batch, device), *wide)
            for name, tile in tiles(args).items():
                contender = loss_of(kind, tile, batch, device)
                first, again = (both_ways(contender, x, y) for _ in range(2))
                gaps = [
                    float((a - b).abs().max() / b.abs().max())
                    for a, b in zip(first[1:], exact[1:], strict=True)
                ]
                line = {"loss": kind, "batch": batch, "type": str(dtype)[6:], "with": name}
                line["value"] = abs(float(first[0]) - float(exact[0]))
                line["gradient"] = max(gaps)
                line["same_bits"] = all(map(torch.equal, first, again))
                report.add("right", line)


def four_products(x: Tensor, y: Tensor) -> Callable[[], None]:
    """Return the least that forward and backward take: S twice, and both gradients."""
    a, b = x.detach(), y.detach()
    s = a.new_empty(min(len(a), 8192), len(b))

    def work() -> None:
        for rows in a.split(len(s)):
            part = s[: len(rows)]
            for _ in range(2):
                torch.mm(rows, b.T, out=part)
            part @ b
            part.T @ rows

    return work


def times(report: Report, args: argparse.Namespace, device: str) -> None:
    """Each loss at each size: what it takes, which is fastest, and what "auto" takes."""
    for kind in KINDS:
        for batch in args.batches:
            for dtype in types(device):
                what = f"times {kind} {batch} {dtype}"
                # a pass of float32 at 65,536 takes half a second, and six contenders take turns
                if not report.has_time(what, 3 * (args.rounds + 1) * (batch / 65536) ** 2 + 1):
                    continue
                x, y = embeddings(batch, args.dim, dtype, device)
                made: dict[str, Contender] = {}
                if kind == "InfoNCE":
                    made["plain torch"] = plain_torch(batch, device)
                    made["open_clip"] = open_clip(batch, device)
                made |= {n: loss_of(kind, t, batch, device) for n, t in tiles(args).items()}
                made["auto"] = loss_of(kind, "auto", batch, device)
                named: dict[str, Callable[[], Any]] = {
                    name: partial(both_ways, run, x, y) for name, run in made.items()
                }
                named["four products"] = four_products(x, y)
                found = in_turns(named, args.rounds, device)
                ours = {n: found[n]["ms"] for n in tiles(args) if n in found}
                flops = 8 * batch * batch * args.dim
                line = {"loss": kind, "batch": batch, "dim": args.dim, "type": str(dtype)[6:]}
                line |= {"found": found, "no_memory": [n for n in named if n not in found]}
                line["tflops"] = flops / found["four products"]["ms"] / 1e9
                line["fastest"] = min(ours, key=lambda name: ours[name]) if ours else ""
                if ours and "auto" in found:
                    line["auto"] = found["auto"]["ms"] / min(ours.values())
                report.add("times", line)
                del x, y, named, made


def losses(batch: int, device: str) -> dict[str, tt.InfoNCE | tt.iSogCLR]:
    counts = torch.randint(1, 1000, (batch,), generator=torch.Generator().manual_seed(1))
    made = {
        "InfoNCE": tt.InfoNCE(0.07),
        "MM-TS": tt.InfoNCE(tt.mmts(counts, alpha=0.04, shift=(0.05, 0.2), period=100)),
        "Learnable": tt.InfoNCE(tt.Learnable(0.07, 0.01, 1.0)),
        "SigLIP": tt.SigLIP(0.1, -10.0),
        "iSogCLR": tt.iSogCLR(batch, tau_init=0.1),
    }
    return {name: loss_fn.to(device) for name, loss_fn in made.items()}


def graphs(report: Report, args: argparse.Namespace, device: str) -> None:
    """Forward and backward captured once and replayed, against calls one by one."""
    for batch in [64, 256, 1024] if device == "cuda" else args.batches:
        for name, loss_fn in losses(batch, device).items():
            if not report.has_time(f"graphs {name} {batch}", 3):
                continue
            x, y = embeddings(batch, args.dim, torch.float32, device)
            index = torch.arange(batch, device=device)
            line: dict[str, Any] = {"loss": name, "batch": batch}
            line |= one_by_one_and_captured(loss_fn, x, y, index, 10 * args.rounds, device)
            report.add("graphs", line)


def one_by_one_and_captured(
    loss_fn: Any, x: Tensor, y: Tensor, index: Tensor, rounds: int, device: str
) -> dict[str, Any]:
    """Return the milliseconds of both, and the largest difference of value and gradients.

    In small, where nothing captures, what a graph would replay is called again.
    """

    def work() -> tuple[Tensor, ...]:
        with Questions().collect():  # no number is read, as between the two ends of a step
            return both_ways(lambda a, b: loss_fn(a, b, index), x, y)

    alone = in_turns({"calls": work}, rounds, device)["calls"]["ms"]
    expected = [part.clone() for part in work()]
    if device != "cuda":
        again = work()
        gap = max(float((a - b).abs().max()) for a, b in zip(again, expected, strict=True))
        return {"calls_ms": alone, "graph_ms": None, "difference": gap, "reason": "no GPU"}
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    try:
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            captured = work()
    except RuntimeError as error:
        return {"calls_ms": alone, "graph_ms": None, "reason": str(error).splitlines()[0][:200]}
    replayed = in_turns({"graph": graph.replay}, rounds, device)["graph"]["ms"]
    gap = max(float((a - b).abs().max()) for a, b in zip(captured, expected, strict=True))
    return {"calls_ms": alone, "graph_ms": replayed, "difference": gap, "reason": ""}
