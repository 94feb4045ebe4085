"""Peak memory and time of one loss on a batch that no matrix of pairs would fit.

    python benchmarks/large_batch.py [--batch 65536] [--dim 512]

InfoNCE with a temperature for each sample, forward and backward in one process, float32. Memory is
the rise of the peak resident set over what is held when the inputs are there.
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

import tauten as tt


def peak() -> float:
    """Largest resident set so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=65536)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, options.dim)
    x, y = (torch.randn(shape, generator=generator).requires_grad_() for _ in range(2))
    counts = torch.randint(1, 1000, (options.batch,), generator=generator)
    loss_fn = tt.InfoNCE(tt.mmts(counts, alpha=0.04, shift=(0.05, 0.09), period=100))
    index = torch.arange(options.batch)
    before, start = peak(), time.perf_counter()
    loss = loss_fn(x, y, index)
    loss.backward()
    seconds = time.perf_counter() - start
    matrix = options.batch**2 * 4 / 2**20
    print(f"batch {options.batch}, d {options.dim}: loss {float(loss.detach()):.4f}")
    print(f"{seconds:.1f} s; {peak() - before:.0f} MiB above the inputs, their gradients among it")
    print(f"one matrix of pairs would be {matrix:.0f} MiB")


if __name__ == "__main__":
    main()
