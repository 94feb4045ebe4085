"""Losses and controls keep all on the device of the embeddings, and wait for it only in steps."""

import pytest
import torch

import cases
import tauten as tt
from pretend_gpu import PretendGPU
from tauten.reads import Questions

PLACES = {"dense": "cuda", 2: "cpu"}
#: losses whose shapes follow from their labels or numbers, so that a forward pass must read some
READING = {
    "amcl",
    "mvdhel-views",
    "mvinfonce-views",
    "palm",
    "simlap",
    "softtopk",
    "supcon",
    "supremix",
    "swav",
}


def both_ways(name, loss_fn, sides, index):
    """Return the loss and its gradients, and advance by a step."""
    torch.manual_seed(7)
    loss = cases.value(name, loss_fn, *sides, index)
    found = [loss.detach(), *torch.autograd.grad(loss, sides)]
    loss_fn.step()
    return found


def on(device, dtype=torch.float32):
    return [side.to(device, dtype).requires_grad_() for side in cases.embeddings()]


def check(name, control, tile, place):
    """Check two steps, τ and the state of a loss against those in main memory."""
    here = cases.driven(name, control, tile=tile).double()
    sides = on("cpu", torch.float64)
    expected = [both_ways(name, here, sides, cases.INDEX) for _ in range(2)]
    with PretendGPU():
        there = cases.driven(name, control, tile=tile).double().cuda()
        sides, index = on("cuda", torch.float64), cases.INDEX.to(place)
        for wanted in expected:
            for tensor, number in zip(both_ways(name, there, sides, index), wanted, strict=True):
                assert tensor.device.type == "cuda"
                torch.testing.assert_close(tensor.cpu(), number)
        state = there.state_dict()
        assert all(tensor.device.type == "cuda" for tensor in state.values())
        if hasattr(here, "strength") and not here.strength.needs_batch:
            for ids in (cases.INDEX, cases.INDEX.cuda()):
                tau = there.tau(ids)
                assert tau.device == ids.device
                torch.testing.assert_close(tau.cpu(), here.tau(cases.INDEX))
        for device in ("cpu", "cuda"):
            again = cases.driven(name, control, seed=1, tile=tile).double().to(device)
            again.load_state_dict({key: tensor.to(device) for key, tensor in state.items()})
            for key, tensor in again.state_dict().items():
                torch.testing.assert_close(tensor.cpu(), here.state_dict()[key])


WAYS = [(name, tile) for name in cases.LOSSES for tile in PLACES]
WAYS.remove(("softtopk", 2))  # its search takes many sweeps over the tiles that others have too


@pytest.mark.parametrize(("name", "tile"), WAYS)
def test_a_loss_works_on_the_device(name, tile):
    check(name, cases.control_for(name), tile, PLACES[tile])


@pytest.mark.filterwarnings("ignore:.*is doubtful")
@pytest.mark.parametrize("control", cases.CONTROLS)
def test_a_control_works_on_the_device(control):
    check("infonce", control, "dense", "cpu")


@pytest.mark.parametrize("name", sorted({*cases.LOSSES} - READING))
def test_nothing_is_copied_or_read_between_the_ends_of_a_step(name):
    with PretendGPU() as gpu:
        loss_fn, sides, index = cases.make_loss(name).cuda(), on("cuda"), cases.INDEX.cuda()
        both_ways(name, loss_fn, sides, index)
        gpu.copies.clear()
        for _ in range(2):
            gpu.reads.clear()  # the first pass may find that the step before has set a start
            with Questions().collect():
                torch.autograd.grad(cases.value(name, loss_fn, *sides, index), sides)
        assert [place for place in gpu.copies + gpu.reads if "cases.py" not in place] == []


@pytest.mark.parametrize("ids", [torch.arange(cases.N), torch.arange(cases.N).clamp(min=1)])
@pytest.mark.parametrize("name", ["infonce", "maxmargin", "siglip"])
def test_ids_in_main_memory_tell_without_a_wait_whether_any_agree(name, ids):
    """As in trainings, which collect all that is asked of the device for one read."""
    values = []
    for device in ("cpu", "cuda"):
        with PretendGPU() as gpu:
            loss_fn, sides = cases.make_loss(name).to(device), on(device)
            index = cases.INDEX.to(device)
            with Questions().collect():
                gpu.waits.clear()
                batch = loss_fn.batch(*sides, index, same=(ids, ids.clone()))
                (losses,) = loss_fn.anchor_losses(batch, ["x2y", "y2x"])
                losses.sum().backward()
                assert gpu.waits == []
            assert batch.relation.single == (len(ids.unique()) == cases.N)
            values.append([losses.detach().cpu(), *(side.grad.cpu() for side in sides)])
    torch.testing.assert_close(*values)


def test_tables_in_main_memory_serve_a_loss_on_the_device():
    expected = both_ways("isogclr", cases.make_loss("isogclr"), on("cpu"), cases.INDEX)
    with PretendGPU():
        loss_fn = tt.iSogCLR(cases.N, tau_init=0.07, tau_range=(0.01, 1.0), table_device="cpu")
        loss_fn.cuda().prefetch(cases.INDEX, "cuda")
        found = both_ways("isogclr", loss_fn, on("cuda"), cases.INDEX.cuda())
        assert {tensor.device.type for tensor in loss_fn.tables.buffers()} == {"cpu"}
        for here, there in zip(expected, found, strict=True):
            torch.testing.assert_close(there.cpu(), here)
