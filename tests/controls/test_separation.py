"""A temperature that the separation of the batch lowers, against the public code's estimator."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt


def drawn(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, 4, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
def test_it_is_the_estimator_of_the_public_code(tile):
    """pdist, exp, mean, log; a velocity with a discount, and a floor; one loss of image and text.

    The same control drives a softmax, a hinge and a loss of views without a change.
    """
    for make in (tt.InfoNCE, tt.SogCLR, tt.MaxMargin, tt.DCL, tt.PairedMVDHEL):
        control = tt.GLATE(0.8, 0.2, rate=0.1, discount=0.7)
        first = (6, control) if make is tt.SogCLR else (control,)
        loss_fn = make(*first, tile=tile).double()
        tau, velocity = 0.8, 0.0
        for step in range(6):
            x, y = drawn(6, step)
            x = x + 2 * step  # closer and closer
            loss_fn(x, y, torch.arange(6))
            assert float(control.at(torch.arange(1))) == pytest.approx(tau)
            u = -torch.pdist(F.normalize(x, dim=1)).pow(2).mul(-2).exp().mean().log()
            velocity = 0.7 * velocity + 1 / max(float(u), 0.1)
            tau = max(tau - 0.1 * velocity, 0.2)
            loss_fn.step()
            assert float(control.at(torch.arange(1))) == pytest.approx(tau)
        assert tau == 0.2


def test_tau_falls_faster_while_embeddings_lie_together():
    falls = []
    for apart in (0.05, 10.0):
        control = tt.GLATE(0.8, 0.2, rate=1e-3)
        loss_fn = tt.InfoNCE(control)
        x, y = (torch.ones(1, 4) + apart * side.float() for side in drawn(8))
        for _ in range(5):
            loss_fn(x, y)
            loss_fn.step()
        falls.append(0.8 - float(control.tau))
    assert falls[0] > 3 * falls[1] > 0


def test_several_batches_of_a_step_are_averaged_and_evaluation_teaches_nothing():
    control = tt.GLATE(0.8, 0.2, rate=0.01)
    loss_fn = tt.InfoNCE(control)
    us = []
    for seed in range(2):
        x, y = drawn(5, seed)
        loss_fn(x, y)
        us.append(-torch.pdist(F.normalize(x, dim=1)).pow(2).mul(-2).exp().mean().log())
    loss_fn.eval()(x + 5, y)
    with torch.no_grad():
        loss_fn.train()(x + 5, y)
    with pytest.raises(tt.NonFiniteLossError):
        loss_fn(x * float("nan"), y)
    loss_fn.step()
    assert float(control.tau) == pytest.approx(0.8 - 0.01 / float(sum(us) / 2))
    loss_fn.step()
    assert float(control.velocity) == pytest.approx(1 / float(sum(us) / 2))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tt.GLATE(0.1, 0.2), "0 < low < init"),
        (lambda: tt.GLATE(rate=0.0), "rate > 0"),
        (lambda: tt.GLATE(discount=1.5), r"discount in \[0, 1\]"),
        (lambda: tt.GLATE().at(torch.arange(2), step=3), "another step has no value yet"),
        (lambda: tt.InfoNCE(tt.GLATE(), normalize=False), "normalize=False"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
