"""Properties that every registered loss and control has."""

import copy
import re

import pytest
import torch

import cases
import tauten as tt

every_loss = pytest.mark.parametrize("name", cases.LOSSES)
#: losses that take a part of their value as a constant: a moving average, weights, assignments
CONSTANTS = ("dclw", "fastclip", "isogclr", "neuclip", "nuclr", "palm", "sogclr", "swav")
every_control = pytest.mark.parametrize("name", cases.CONTROLS)


def value_and_gradients(name, loss_fn, seed=0):
    x, y = (side.requires_grad_() for side in cases.embeddings(seed))
    loss = cases.value(name, loss_fn, x, y)
    loss.backward()
    return loss.detach(), x.grad, y.grad


@every_loss
def test_tiles_change_nothing(name):
    dense = value_and_gradients(name, cases.make_loss(name).double())
    tiled = value_and_gradients(name, cases.make_loss(name, tile=(4, 2)).double())
    assert dense[1].abs().max() > 0
    for one, other in zip(dense, tiled, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", sorted({*cases.LOSSES} - {*CONSTANTS}))
@pytest.mark.parametrize("tile", ["dense", (4, 2)])
def test_gradients_are_those_of_finite_differences(name, tile):
    loss_fn = cases.make_loss(name, tile=tile).double()
    sides = [side.requires_grad_() for side in cases.embeddings()]
    assert torch.autograd.gradcheck(
        lambda x, y: cases.value(name, loss_fn, x, y), sides, fast_mode=True
    )


@every_loss
def test_the_order_of_a_batch_changes_nothing(name):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    x, y = cases.embeddings()
    value = cases.value(name, cases.make_loss(name).double(), x, y)
    other = cases.make_loss(name).double()
    moved = cases.value(name, other, x[order], y[order], cases.INDEX[order])
    torch.testing.assert_close(value.detach(), moved.detach())


@every_loss
def test_forces_do_not_depend_on_lengths(name):
    """Similarities are cosines, so that no force acts along an embedding."""
    _, of_x, of_y = value_and_gradients(name, cases.make_loss(name).double())
    for side, gradient in zip(cases.embeddings(), (of_x, of_y), strict=True):
        torch.testing.assert_close((side * gradient).sum(1), torch.zeros(cases.N).double())


@every_loss
def test_state_survives_a_restart(name):
    whole = cases.make_loss(name).double()
    for seed in range(2):
        value_and_gradients(name, whole, seed)
        whole.step()
    resumed = cases.make_loss(name, seed=1).double()
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    for one, other in zip(
        value_and_gradients(name, whole, 2), value_and_gradients(name, resumed, 2), strict=True
    ):
        torch.testing.assert_close(one, other)


@every_loss
def test_a_refused_batch_leaves_nothing_behind(name):
    loss_fn = cases.make_loss(name).double()
    value_and_gradients(name, loss_fn)
    loss_fn.step()
    before = copy.deepcopy(loss_fn.state_dict())
    x, y = cases.embeddings(1)
    x[2, 1] = float("nan")
    with pytest.raises(tt.NonFiniteLossError):
        cases.value(name, loss_fn, x, y)
    torch.testing.assert_close(dict(loss_fn.state_dict()), dict(before))


@every_loss
@pytest.mark.parametrize("control", cases.CONTROLS)
def test_a_control_drives_a_loss_or_is_refused_with_the_reason(name, control):
    reason = cases.REFUSED.get(name, {}).get(control)
    if reason is not None:
        with pytest.raises(ValueError, match=re.escape(reason)):
            cases.driven(name, control)
        return
    loss_fn = cases.driven(name, control).double()
    assert all(part.isfinite().all() for part in value_and_gradients(name, loss_fn))


@every_control
def test_values_are_in_the_range_that_is_told(name):
    control = cases.make_control(name)
    if control.granularity == "pair":
        pytest.skip("values exist for pairs of a batch")
    low, high = control.range()
    if control.needs_batch:
        pytest.skip("values exist for embeddings")
    for step in (0, 7, 19):
        values = control.at(cases.INDEX, step)
        assert values.shape == (cases.N,)
        assert values.min() >= low - 1e-6
        assert values.max() <= high + 1e-6


@every_control
def test_a_control_survives_a_restart(name):
    control = cases.make_control(name)
    for _ in range(3):
        control.step()
    resumed = cases.make_control(name, seed=1)
    resumed.load_state_dict(copy.deepcopy(control.state_dict()))
    torch.testing.assert_close(dict(resumed.state_dict()), dict(control.state_dict()))
    assert resumed.range() == pytest.approx(control.range())
