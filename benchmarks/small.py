"""Losses at small and medium batches against the same mathematics in plain torch.

    python benchmarks/small.py [--batches 64 256 512 1024] [--dim 256] [--seconds 0.5]
                               [--only MM-TS] [--threads 1]

Forward and backward from embeddings to embedding gradients, float32. Each loss and its
plain form take turns in one process, and CPU time is counted, so that a loaded machine changes the
times but hardly the ratios. Printed is the median of the ratios of the rounds. The last lines say
how much longer a won batch (y = x) takes at τ = 0.01 than at 0.07, whole and in tiles.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

import tauten as tt

Run = Callable[[Tensor, Tensor], Tensor]
Pair = Callable[[int, Tensor], tuple[Run, Run]]


def cross_entropies(x: Tensor, y: Tensor, tau: Tensor) -> Tensor:
    """InfoNCE both ways; τ is () or, for each anchor, (B,)."""
    logits, target = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T, torch.arange(len(x))
    scale = (1 / tau).reshape(-1, 1)
    return (F.cross_entropy(logits * scale, target) + F.cross_entropy(logits.T * scale, target)) / 2


def infonce(size: int, index: Tensor) -> tuple[Run, Run]:
    loss_fn, tau = tt.InfoNCE(0.07), torch.tensor(0.07)
    return loss_fn, lambda x, y: cross_entropies(x, y, tau)


def mmts(size: int, index: Tensor) -> tuple[Run, Run]:
    counts = torch.randint(1, 1000, (size,), generator=torch.Generator().manual_seed(1))
    control = tt.mmts(counts, alpha=0.04, shift=(0.05, 0.2), period=100)
    loss_fn = tt.InfoNCE(control)
    return lambda x, y: loss_fn(x, y, index), lambda x, y: cross_entropies(x, y, control.at(index))


def learnable(size: int, index: Tensor) -> tuple[Run, Run]:
    loss_fn = tt.InfoNCE(tt.Learnable(0.07, 0.01, 1.0))
    log_tau = torch.tensor(0.07).log().requires_grad_()
    return loss_fn, lambda x, y: cross_entropies(x, y, log_tau.exp())


def max_margin(size: int, index: Tensor) -> tuple[Run, Run]:
    def plain(x: Tensor, y: Tensor) -> Tensor:
        s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
        positive = s.diagonal()
        rows = F.relu(0.2 + s - positive.unsqueeze(1))
        cols = F.relu(0.2 + s - positive.unsqueeze(0))
        return (rows + cols).masked_fill(torch.eye(len(x), dtype=torch.bool), 0.0).sum() / (
            2 * len(x) * (len(x) - 1)
        )

    return tt.MaxMargin(0.2), plain


def siglip(size: int, index: Tensor) -> tuple[Run, Run]:
    def plain(x: Tensor, y: Tensor) -> Tensor:
        logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T * 10.0 - 10.0
        labels = 2 * torch.eye(len(x)) - torch.ones(len(x), len(x))
        return -F.logsigmoid(labels * logits).sum() / len(x)

    return tt.SigLIP(0.1, -10.0), plain


def isogclr(size: int, index: Tensor) -> tuple[Run, Run]:
    """The moving averages, temperatures and momenta of both sides, updated in every step."""
    loss_fn = tt.iSogCLR(size, tau_init=0.1)
    tables = [[torch.zeros(size), torch.full((size,), 0.1), torch.zeros(size)] for _ in range(2)]
    gamma, rho, lr, beta = 0.8, 6.0, 0.03, 0.9

    def ours(x: Tensor, y: Tensor) -> Tensor:
        loss: Tensor = loss_fn(x, y, index)
        loss.backward()
        loss_fn.step()
        return loss

    def plain(x: Tensor, y: Tensor) -> Tensor:
        s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
        off = ~torch.eye(len(x), dtype=torch.bool)
        total = x.new_zeros(())
        for sim, (u, tau, momentum) in zip((s, s.T), tables, strict=True):
            t = tau[index]
            h = (sim - sim.diagonal().unsqueeze(1)) / t.unsqueeze(1)
            e = torch.exp(h) * off
            g = e.sum(1) / (len(x) - 1)
            old = u[index]
            new = torch.where(old > 0, (1 - gamma) * old + gamma * g.detach(), g.detach())
            u[index] = new
            total = total + (t * g / new).mean() / 2
            with torch.no_grad():
                weighted = (e * h).sum(1) / (len(x) - 1) / new
                gradient = (new.log() + rho - weighted).clamp(-5, 5)
                moved = (1 - beta) * momentum[index] + beta * gradient
                momentum[index] = moved
                tau[index] = (t - lr * moved).clamp(0.005, 1.0)
        total.backward()
        return total

    return ours, plain


PAIRS: dict[str, Pair] = {
    "InfoNCE, one τ": infonce,
    "InfoNCE, MM-TS": mmts,
    "InfoNCE, learned τ": learnable,
    "MaxMargin": max_margin,
    "SigLIP": siglip,
    "iSogCLR with step": isogclr,
}


def embeddings(batch: int, dim: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, dim, generator=generator)
    y = x + torch.randn(batch, dim, generator=generator)
    return x.requires_grad_(), y.requires_grad_()


def spent(run: Run, x: Tensor, y: Tensor) -> float:
    """Return the CPU seconds of one forward and backward pass."""
    x.grad = y.grad = None
    start = time.process_time()
    loss = run(x, y)
    if x.grad is None:
        loss.backward()
    return time.process_time() - start


def compare(first: Run, second: Run, x: Tensor, y: Tensor, seconds: float) -> tuple[float, float]:
    """Return the median of the ratios of first to second, and the second's median seconds."""
    for run in (first, second) * 3:
        spent(run, x, y)
    ratios, base = [], []
    while sum(base) < seconds or len(base) < 5:
        ours = spent(first, x, y)
        base.append(spent(second, x, y))
        ratios.append(ours / base[-1])
    return statistics.median(ratios), statistics.median(base)


def won(batch: int, tile: str | tuple[int, int], seconds: float) -> float:
    """Return how much longer a batch without errors takes where τ is small."""
    x, _ = embeddings(batch, 512)
    y = x.detach().clone().requires_grad_()
    low, high = (tt.InfoNCE(tau, tile=tile) for tau in (0.01, 0.07))
    return compare(low, high, x, y, seconds)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 512, 1024])
    parser.add_argument("--dim", type=int, default=256, help="embedding width")
    parser.add_argument("--seconds", type=float, default=0.5, help="CPU time of each plain form")
    parser.add_argument("--only", nargs="+", default=[], help="contenders, by a part of the name")
    parser.add_argument("--threads", type=int, default=1, help="of torch; set OMP_NUM_THREADS too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    setting = f"torch {torch.__version__}, threads: {options.threads}, d = {options.dim}"
    print(f"{setting}; CPU time / plain (plain ms)")
    print(f"{'':20}" + "".join(f"{f'B = {batch}':>16}" for batch in options.batches))
    for name, pair in PAIRS.items():
        if options.only and not any(part in name for part in options.only):
            continue
        line = f"{name:20}"
        for batch in options.batches:
            ours, plain = pair(batch, torch.arange(batch))
            x, y = embeddings(batch, options.dim)
            ratio, base = compare(ours, plain, x, y, options.seconds)
            line += f"{f'{ratio:.2f} ({1000 * base:.2f})':>16}"
        print(line, flush=True)
    if not options.only:
        whole, tiled = (won(1024, tile, options.seconds) for tile in ("dense", (512, 768)))
        print(f"won batch of 1024, τ = 0.01 / 0.07: dense {whole:.2f}, tiled {tiled:.2f}")


if __name__ == "__main__":
    main()
