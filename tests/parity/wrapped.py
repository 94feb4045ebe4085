"""One rank of the wrapper parity: DDP, a loss beside DDP, FSDP2, accumulation; against one process.

Run as ``python wrapped.py RANK WORLD STORE OUT``. Each wrapper trains a small module of two towers
and a loss for three steps; weights, τ and tables are compared with a plain loop on whole batches.
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import tauten as tt
from tauten.pairwise import exchange

SAMPLES, ROWS, STEPS = 24, 8, 3
LOSSES = {
    "infonce learnable": lambda: tt.InfoNCE(tt.Learnable(0.2, 0.05, 1.0)),
    "infonce in parts": lambda: tt.InfoNCE(tt.Learnable(0.2, 0.05, 1.0), ranks="gather"),
    "isogclr": lambda: tt.iSogCLR(SAMPLES, rho=0.5, tau_init=0.2, tau_range=(0.05, 1.0)),
    "fastclip-v3": lambda: tt.FastCLIP(SAMPLES, "v3", 0.6, rho=0.5, tau_init=0.2),
    "tempnet": lambda: tt.SogCLR(
        SAMPLES, tt.TempNet(4, 0.5, (0.1, 0.5), prototypes=5, dropout=0.0), 0.6
    ),
    "tempnet one way": lambda: tt.SogCLR(
        SAMPLES,
        tt.TempNet((4, 4), 0.5, (0.1, 0.5), prototypes=5, dropout=0.0),
        0.6,
        directions="x2y",
    ),
    "tau": lambda: tt.InfoNCE(tt.TaU(4, 0.1)),
    "siglip": lambda: tt.SigLIP(tt.Learnable(0.2, 0.05, 1.0), tt.Learnable(-1.0, -9.0, 9.0)),
}


class Pair(nn.Module):
    """Two towers and a loss."""

    def __init__(self, loss_fn):
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(5, 4)
        self.loss_fn = loss_fn

    def forward(self, a, b, ids):
        return self.loss_fn(self.left(a), self.right(b), ids)


class Towers(nn.Module):
    """The two towers without the loss."""

    def __init__(self, pair):
        super().__init__()
        self.left, self.right = pair.left, pair.right

    def forward(self, a, b):
        return self.left(a), self.right(b)


def build(name):
    torch.manual_seed(0)
    return Pair(LOSSES[name]()).double()


def batch(step, part):
    generator = torch.Generator().manual_seed(10 * step + part)
    a = torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)
    b = torch.randn(ROWS, 5, generator=generator, dtype=torch.float64)
    return a, b, torch.randint(0, SAMPLES, (ROWS,), generator=generator)


def train(module, inner, shard, parts=1, quiet=None):
    """Three SGD steps, each over some batches; ``quiet`` silences all but the last of a step."""
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.3)
    for step in range(STEPS):
        optimizer.zero_grad()
        for part in range(parts):
            last = part == parts - 1
            with nullcontext() if quiet is None or last else quiet():
                (module(*(t[shard] for t in batch(step, part))) / parts).backward()
        optimizer.step()
        inner.loss_fn.step()
    return inner.state_dict()


def beside(inner, **options):
    """A call of the pair, the towers in DDP and the loss beside them; and what silences DDP."""
    towers = DistributedDataParallel(Towers(inner), broadcast_buffers=False, **options)

    def call(a, b, ids):
        return inner.loss_fn(*towers(a, b), ids)

    return call, towers.no_sync


def local(inner):
    """The mean of the losses of the two shards, on one process."""

    def call(a, b, ids):
        parts = [inner(a[s], b[s], ids[s]) for s in (slice(0, 5), slice(5, 8))]
        return sum(parts) / 2

    return call


def full(value):
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def gaps(case, expected, state):
    """What differs, on any process."""
    problems = []
    for key, value in expected.items():
        other = full(state[key])
        if not torch.allclose(other, value, rtol=1e-9, atol=1e-9):
            problems.append(f"{case} {key}: {float((other - value).abs().max()):.2e}")
    of_all = [None] * dist.get_world_size()
    dist.all_gather_object(of_all, problems)
    return [problem for problems in of_all for problem in problems]


def compare(rank, world):
    """How many cases there are, and what differs in them."""
    mesh = init_device_mesh("cpu", (world,))
    start, share = sum((5, 3)[:rank]), (5, 3)[rank]
    shard, whole = slice(start, start + share), slice(0, ROWS)
    problems, count = [], 0
    for name in LOSSES:
        for parts in (1, 2):
            alone = build(name)
            alone.loss_fn.ranks = "local"
            expected = train(alone, alone, whole, parts)
            found = {}
            inner = build(name)
            wrapped = DistributedDataParallel(inner, broadcast_buffers=False)
            train(wrapped, inner, shard, parts, wrapped.no_sync)
            found["ddp"] = inner.state_dict()
            inner = build(name)
            call, quiet = beside(inner)
            train(call, inner, shard, parts, quiet)
            found["beside ddp"] = inner.state_dict()
            inner = build(name)
            fully_shard(inner.left, mesh=mesh)
            fully_shard(inner.right, mesh=mesh)
            fully_shard(inner, mesh=mesh)
            found["fsdp2"] = train(inner, inner, shard, parts)
            for wrapper, state in found.items():
                count += 1
                problems += gaps(f"{wrapper} {name} x{parts}", expected, state)
    for name in ("infonce learnable", "siglip", "tau"):
        alone, inner = build(name), build(name)
        alone.loss_fn.ranks = inner.loss_fn.ranks = "local"
        expected = train(local(alone), alone, whole)
        call, _ = beside(inner)
        train(call, inner, shard)
        count += 1
        problems += gaps(f"local {name}", expected, inner.state_dict())
    problems += local_means(rank, shard) + grown(rank) + of_unlike(rank)
    return {"cases": count, "problems": problems + refusals()}


def local_means(rank, shard):
    """What is wrong with the running means of processes that have batches of their own."""
    counts = [1 + 7 * i % 23 for i in range(SAMPLES)]
    loss_fn = tt.InfoNCE(tt.ClusterShift(counts, 0.1, 0.9), force="equalized", ranks="local")
    seen = []
    for step in range(3):
        a, _, ids = (part[shard] for part in batch(step, 0))
        if step or not rank:  # the second process has no batch in the first step
            loss_fn(a[:, :4].clone().requires_grad_(), a[:, 2:], ids)
            seen.append((step, float(loss_fn.tau(ids).mean())))
        loss_fn.step()
    of_all = [None] * dist.get_world_size()
    dist.all_gather_object(of_all, seen)
    by_step = [[m for part in of_all for at, m in part if at == step] for step in range(3)]
    expected = sum(sum(means) / len(means) for means in by_step) / 3
    found = float(loss_fn.running.mean)
    return [] if abs(found - expected) < 1e-6 else [f"rank {rank}: {found} for {expected}"]


def grown(rank):
    """What is wrong where batches are small and large in turn, and each process takes small ones
    whole."""
    problems = []
    small, exchange.FEW_PAIRS = exchange.FEW_PAIRS, 30
    loss_fn, alone = (tt.InfoNCE(0.2, ranks=ranks) for ranks in ("auto", "local"))
    for step, half in enumerate((2, 4, 3, 2, 1)):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(2, 2 * half, 4, generator=generator, dtype=torch.float64)
        same = torch.randint(0, 4, (2 * half,), generator=generator)
        shard = slice(rank * half, (rank + 1) * half)
        whole, part = x.clone().requires_grad_(), x[shard].clone().requires_grad_()
        expected, loss = alone(whole, y, same=same), loss_fn(part, y[shard], same=same[shard])
        (expected * 2).backward()
        loss.backward()
        if not torch.allclose(loss, expected) or not torch.allclose(part.grad, whole.grad[shard]):
            problems.append(f"batch {step} of {2 * half} on rank {rank}")
        if loss_fn._room.small != (half < 3):
            problems.append(f"batch {step} is taken for another size")
    exchange.FEW_PAIRS = small
    of_all = [None] * dist.get_world_size()
    dist.all_gather_object(of_all, problems)
    return [problem for problems in of_all for problem in problems]


def of_unlike(rank):
    """What is wrong where processes give one loss inputs that differ in kind, one after the other.

    All are told by an error of their own, and the next batch that is right is taken.
    """
    x, ids = torch.randn(3, 8, generator=torch.Generator().manual_seed(rank)), torch.arange(3)
    shift = tt.ClusterShift([1, 2, 3, 4, 5, 6], low=0.1, high=0.2)
    given = {
        "index= and 0 vectors": [((x, x), {"index": ids}), ((x, x), {"same": ids})],
        "width 6": [((x, x), {}), ((x[:, :6], x[:, :6]), {})],
        "torch.bfloat16": [((x, x), {}), ((x.bfloat16(), x.bfloat16()), {})],
        "no vector of one integer": [((x, x), {"same": ids}), ((x, x), {"same": ids[:2]})],
        "without index=": [((x, x), {"index": ids}), ((x, x), {})],
        "another relation": [((x, x), {}), ((x, x), {"labels": ids})],
    }
    problems = []
    for loss_fn in (tt.InfoNCE(0.1), tt.InfoNCE(shift)):
        for wanted, (first, second) in given.items():
            before = loss_fn(x, x, ids)
            inputs, keywords = second if rank else first
            try:
                loss_fn(*inputs, **keywords)
                problems.append(f"{wanted} on one process is taken")
            except ValueError as error:
                if wanted not in str(error):
                    problems.append(f"{wanted} on one process: {error}")
            if not torch.equal(loss_fn(x, x, ids), before):
                problems.append(f"after {wanted} on one process a batch is not taken")
    return problems


def refusals():
    """What is not refused as it should be, or in other words."""
    problems = []
    rank = dist.get_rank()
    x, y = (torch.randn(3, 4, generator=torch.Generator().manual_seed(rank)) for _ in range(2))
    x.requires_grad_()
    for tile in ("dense", 2):
        loss = tt.InfoNCE(0.2, tile=tile)(x, y)
        try:
            torch.autograd.grad(loss, x, create_graph=True)
            problems.append(f"a second derivative over processes, {tile}")
        except RuntimeError as error:
            if "first derivatives only" not in str(error):
                problems.append(str(error))
        dist.barrier()
    broken = x.detach().clone()
    broken[1] *= float("nan") if rank else 1.0
    said = [None] * dist.get_world_size()
    try:
        dist.all_gather_object(said, str(tt.InfoNCE(0.2)(broken, y, torch.arange(3) + 10 * rank)))
    except ValueError as error:
        dist.all_gather_object(said, str(error))
    reasons = "another process was given NaN", "1 of 3 rows: 1; data set ids 11"
    for words, wanted in zip(said, reasons, strict=True):
        problems += [] if wanted in words else [f"of a row that is NaN: {words}"]
    torch.manual_seed(rank)
    try:
        tt.InfoNCE(tt.Learnable(0.1 + 0.1 * rank, 0.05, 1.0))(x, y)
        problems.append("parameters that differ between processes")
    except ValueError as error:
        if "strength.parameter differs between processes" not in str(error):
            problems.append(str(error))
    return problems


def main():
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=world
    )
    found = compare(rank, world)
    if rank == 0:
        Path(sys.argv[4]).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()
    # FSDP's caches keep the group's threads alive, and the interpreter may abort when it ends first
    os._exit(0)


if __name__ == "__main__":
    main()
