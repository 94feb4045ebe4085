"""Losses on a CUDA device are those of the CPU, wait for nothing, and are captured in a graph."""

import pytest
import torch

import tauten as tt
from tauten.reads import Questions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
BATCH, DIM = 96, 16
COUNTS = torch.arange(1, BATCH + 1)
LOSSES = {
    "infonce": lambda: tt.InfoNCE(0.07),
    "mmts": lambda: tt.InfoNCE(tt.mmts(COUNTS, alpha=0.04, shift=(0.05, 0.2), period=100)),
    "learnable": lambda: tt.InfoNCE(tt.Learnable(0.07, 0.01, 1.0)),
    "siglip": lambda: tt.SigLIP(0.1, -10.0),
    "margin": lambda: tt.MaxMargin(0.2),
    "isogclr": lambda: tt.iSogCLR(BATCH, tau_init=0.1),
}


def sides(device):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(BATCH, DIM, generator=generator) for _ in range(2))
    return [side.to(device).requires_grad_() for side in (x, x + y)]


def both_ways(loss_fn, x, y, index):
    loss = loss_fn(x, y, index)
    return [loss.detach(), *torch.autograd.grad(loss, (x, y))]


@pytest.mark.parametrize("tile", ["dense", 32])
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradients_are_those_of_the_cpu(name, tile):
    found = {}
    for device in ("cpu", "cuda"):
        loss_fn = LOSSES[name]().to(device)
        loss_fn.tile = tile
        found[device] = both_ways(loss_fn, *sides(device), torch.arange(BATCH, device=device))
        loss_fn.step()
    for here, there in zip(found["cpu"], found["cuda"], strict=True):
        torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_graph_replays_the_loss_of_other_embeddings(name):
    loss_fn, (x, y) = LOSSES[name]().cuda(), sides("cuda")
    index, side = torch.arange(BATCH, device="cuda"), torch.cuda.Stream()

    def work():
        with Questions().collect():
            return both_ways(loss_fn, x, y, index)

    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = work()
    with torch.no_grad():
        x.copy_(y + x.roll(1, 0))
    graph.replay()
    for mine, wanted in zip(captured, work(), strict=True):
        torch.testing.assert_close(mine, wanted)
