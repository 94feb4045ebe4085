"""One rank of the parity suite of graded relevancy.

Run as ``python relevancy_worker.py RANK WORLD STORE OUT``. Rank 0 also computes each case on the
whole batch by itself and writes what differs.
"""

import json
import sys
from pathlib import Path

import torch
from torch import distributed as dist

import tauten as tt

SAMPLES, DIM, SIZES = 30, 4, [5, 0, 3]
COUNTS = [1 + 7 * i % 23 for i in range(SAMPLES)]
MODES = {
    "dense": {"tile": "dense"},
    "tiled": {"tile": (2, 3)},
    "ring": {"tile": 3, "ranks": "ring"},
}


def batch():
    generator = torch.Generator().manual_seed(0)
    n = sum(SIZES)
    x, y = (torch.randn(n, DIM, generator=generator, dtype=torch.float64) for _ in range(2))
    steps = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    table = steps[torch.randint(4, (6, 7), generator=generator)]
    rows, cols = (torch.randint(size, (n,), generator=generator) for size in (6, 7))
    return x, x + y, torch.randint(SAMPLES, (n,), generator=generator), table, rows, cols


def cases(shard):
    """Name, loss of options, keywords of the call for the rows of a shard."""
    *_, table, rows, cols = batch()
    margin = tt.mmts(COUNTS, 0.1, (0.3, 0.6), 7)
    relevance = torch.linspace(0.1, 1.0, sum(SIZES), dtype=torch.float64)[shard]
    matrix = table[rows[shard][:, None], cols]
    return [
        ("matrix", lambda **o: tt.SMS(margin, **o), {"relevancy": matrix}),
        (
            "codes",
            lambda **o: tt.SMS(margin, table=table, **o),
            {"relevancy": (rows[shard], cols[shard])},
        ),
        ("adaptive", lambda **o: tt.MaxMargin(margin, **o), {"relevance": relevance}),
    ]


def run(loss_fn, shard, keywords):
    x, y, ids, *_ = batch()
    a, b = x[shard].clone().requires_grad_(), y[shard].clone().requires_grad_()
    loss = loss_fn(a, b, ids[shard], **keywords)
    loss.backward()
    return loss.detach(), a.grad, b.grad


def main():
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=world
    )
    start = sum(SIZES[:rank])
    shard, whole = slice(start, start + SIZES[rank]), slice(0, sum(SIZES))
    problems, count = [], 0
    references = cases(whole)
    for (name, make, keywords), (_, _, all_keywords) in zip(cases(shard), references, strict=True):
        alone = run(make(tile="dense", ranks="local"), whole, all_keywords)
        for mode, options in MODES.items():
            parts = [None] * world
            dist.all_gather_object(parts, run(make(**options), shard, keywords))
            count += 1
            losses, *grads = zip(*parts, strict=True)
            found = [*losses, *(torch.cat(part) / world for part in grads)]
            expected = [alone[0]] * world + [*alone[1:]]
            for got, want in zip(found, expected, strict=True):
                if not torch.allclose(got, want, rtol=1e-9, atol=1e-9):
                    problems.append(f"{name} {mode}: {float((got - want).abs().max()):.2e}")
    if rank == 0:
        Path(sys.argv[4]).write_text(json.dumps({"cases": count, "problems": problems}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
