"""One process of those that share a batch normalisation; run by test_batch_norm.py.

Run as ``python batch_norm_worker.py RANK STORE OUT``.
"""

import sys

import torch
from torch import distributed

from tauten.models.batch_norm import BatchNorm

ROWS, CHANNELS = (7, 0, 5), 5
#: places beside the channels, and the numbers' type
CASES = {
    "vectors": ((), torch.float64),
    "pictures": ((3, 4), torch.float64),
    "single": ((3, 4), torch.float32),
    "half": ((3, 4), torch.bfloat16),
}


def layer(case, affine, of=BatchNorm):
    """A layer with weights of its own, in float32 for the numbers of two bytes."""
    made = of(CHANNELS, affine=affine)
    made = made.double() if CASES[case][1] == torch.float64 else made
    if affine:
        with torch.no_grad():
            made.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
            made.bias.copy_(torch.linspace(-1, 1, CHANNELS))
    return made


def batch(case):
    """A batch far from 0, and the cotangents of what is made of it."""
    places, dtype = CASES[case]
    generator = torch.Generator().manual_seed(0)
    shape = (sum(ROWS), CHANNELS, *places)
    x, cotangent = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return (3 * x + 50).to(dtype), cotangent.to(dtype)


def results(made, x, cotangent):
    """Output, gradient of the input, running statistics; gradients of the parameters."""
    x = x.clone().requires_grad_()
    y = made(x)
    y.backward(cotangent)
    rows = [y.detach(), x.grad]
    state = [made.running_mean, made.running_var]
    return rows, state, [p.grad for p in made.parameters()]


def main(rank, store, out):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=len(ROWS))
    found = {}
    for case in CASES:
        for affine in (True, False):
            x, cotangent = (part.split(ROWS)[rank] for part in batch(case))
            found[case, affine] = results(layer(case, affine), x, cotangent)
    torch.save(found, out)
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
