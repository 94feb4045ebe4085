"""The pretend CUDA device refuses, copies and waits as CUDA does."""

import copy
import io

import pytest
import torch
from torch import nn

from pretend_gpu import PretendGPU

ROWS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]


@pytest.fixture
def gpu():
    with PretendGPU() as gpu:
        yield gpu


@pytest.fixture
def x(gpu):
    with gpu.pause():
        return torch.tensor(ROWS, device="cuda")


MIXED = {
    "sum": lambda x, y: x + y,
    "product": lambda x, y: x @ y.T,
    "cat": lambda x, y: torch.cat([x, y]),
    "stack of numbers": lambda x, y: torch.stack([x.sum(), y.sum()]),
    "written": lambda x, y: y.add_(x),
    "written number": lambda x, y: y.sum().add_(x.sum()),
    "rows at": lambda x, y: x.index_select(0, y.long()[:, 0]),
    "index of the device": lambda x, y: y[x.long()[:, 0] % 3],
    "set at": lambda x, y: x.__setitem__(torch.tensor([0]), y[:1]),
    "where": lambda x, y: torch.where(x > 0, x, y),
    "linear": lambda x, y: nn.Linear(2, 2)(x),
}


@pytest.mark.parametrize("way", MIXED)
def test_tensors_of_two_devices_do_not_meet(x, way):
    with pytest.raises(RuntimeError, match="same device"):
        MIXED[way](x, torch.tensor(ROWS))


def test_a_number_of_main_memory_meets_them(x):
    assert (x * torch.tensor(2.0)).tolist() == [[2.0, 4.0], [6.0, 8.0], [10.0, 12.0]]


READS = {
    "float": lambda x: float(x[0, 0]),
    "bool": lambda x: bool((x > 0).any()),
    "if": lambda x: 1 if x.sum() > 0 else 0,
    "item": lambda x: x[0, 0].item(),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu", torch.float64),
    "copied": lambda x: torch.zeros(3, 2).copy_(x),
    "equal": lambda x: torch.equal(x, x),
    "allclose": lambda x: torch.allclose(x, x),
    "mask": lambda x: x[x > 2],
    "masked": lambda x: x.clone().__setitem__(x > 0, x.flatten()),
    "select": lambda x: x.masked_select(x > 2),
    "nonzero": lambda x: x.nonzero(),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: torch.bincount(x.long().flatten()),
    "format": lambda x: f"{x[0, 0]:g}",
    "range": lambda x: range(int(x[0, 0])),
}


@pytest.mark.parametrize("way", READS)
def test_a_read_is_written_down_with_its_place(gpu, x, way):
    x * 2 + x.sum()
    assert gpu.reads == []
    READS[way](x)
    assert len(gpu.reads) == 1
    assert "test_pretend_gpu.py" in gpu.reads[0]
    assert gpu.copies == []


COPIES = {
    "tensor": lambda x: torch.tensor([1.0], device="cuda"),
    "new": lambda x: x.new_tensor([1.0]),
    "to": lambda x: torch.ones(3).to(x),
    "cuda": lambda x: torch.ones(3).cuda(),
    "copied": lambda x: x.copy_(torch.zeros(3, 2)),
    "index": lambda x: x[torch.tensor([2, 0])],
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_to_the_device_is_written_down(gpu, x, way):
    COPIES[way](x)
    assert len(gpu.copies) == 1
    assert gpu.reads == []


FREE = {
    "zeros": lambda x: torch.zeros(3, device="cuda"),
    "full": lambda x: torch.full((), 0.5, device=x.device),
    "new": lambda x: x.new_zeros(3),
    "like": lambda x: torch.ones_like(x),
    "arange": lambda x: torch.arange(3, device=x.device),
    "filled": lambda x: x.clone().__setitem__(x > 2, 0.0),
    "index": lambda x: x[torch.arange(2, device="cuda")],
    "same place": lambda x: x.to("cuda").cuda(),
}


@pytest.mark.parametrize("way", FREE)
def test_what_the_device_makes_costs_neither(gpu, x, way):
    made = FREE[way](x)
    assert made is None or (made.is_cuda and made.device.type == "cuda" and not made.is_cpu)
    assert gpu.reads == gpu.copies == []


def test_a_module_moves_and_learns(gpu):
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    twin = copy.deepcopy(net)
    net.to("cuda")
    assert all(p.is_cuda and isinstance(p, nn.Parameter) for p in net.parameters())
    for module, device in ((net, "cuda"), (twin, "cpu")):
        optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            module(torch.tensor(ROWS, device=device)).square().mean().backward()
            optimizer.step()
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    for name, tensor in torch.load(file).items():
        torch.testing.assert_close(tensor, twin.state_dict()[name])


def test_gradients_pass_from_one_device_to_the_other(gpu, x):
    here = torch.tensor(ROWS, requires_grad=True)
    (here.cuda() * x).sum().cpu().backward()
    assert here.grad.tolist() == ROWS
    assert here.grad.device.type == "cpu"


class Halves(torch.autograd.Function):
    """x and 2·x; the backward pass reads a number."""

    @staticmethod
    def forward(ctx, x):
        return x.clone(), 2 * x

    @staticmethod
    def backward(ctx, one, two):
        assert one.device.type == two.device.type == "cuda"
        one.sum().cpu()
        return one + 2 * two


def test_a_backward_pass_is_watched_and_lacking_gradients_are_of_the_device(gpu, x):
    x.requires_grad_()
    Halves.apply(x)[1].sum().backward()
    assert x.grad.tolist() == [[2.0, 2.0]] * 3
    assert "backward" in gpu.reads[0]
