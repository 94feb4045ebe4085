"""Shape and size of the force are two knobs."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

INDEX = torch.arange(6)
COUNTS = [1, 2, 4, 8, 16, 32]


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(6, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return F.normalize(x, dim=1), F.normalize(x + y, dim=1)


def test_equalized_softmax_force_is_bounded_by_one_over_the_mean(pair):
    """Plain: repulsion of anchor i sums to (1−p_ii)/τ_i; equalized: to (1−p_ii)/τ̄."""
    tau = tt.ClusterShift(COUNTS, 0.05, 0.5)
    t = tau.double().at(INDEX).double()
    s = (pair[0] @ pair[1].T).requires_grad_()
    eye = torch.eye(6, dtype=torch.float64)
    loss_fn = tt.InfoNCE(tau, force="equalized", normalize=False, directions="x2y", reduction="sum")
    loss_fn(s, eye, INDEX).backward()
    p = (s.detach() / t[:, None]).softmax(1).diagonal()
    torch.testing.assert_close(s.grad.diagonal(), -(1 - p) / t.mean(), rtol=1e-6, atol=1e-9)


def test_a_constant_temperature_is_the_same_under_both_forces(pair):
    plain, equalized = tt.InfoNCE(0.1), tt.InfoNCE(0.1, force="equalized")
    assert float(equalized(*pair)) == pytest.approx(float(plain(*pair)), rel=1e-9)


def test_the_running_mean_averages_steps_and_not_forward_calls(pair):
    loss_fn = tt.InfoNCE(tt.Cosine(0.1, 0.3, period=2), force="equalized")
    for _ in range(2):
        for _ in range(3):
            loss_fn(*pair)
        loss_fn.step()
    assert float(loss_fn.running.mean) == pytest.approx(0.2)
    assert int(loss_fn.running.count) == 2


def test_evaluation_leaves_the_running_mean_alone(pair):
    loss_fn = tt.InfoNCE(tt.Cosine(0.1, 0.3, period=2), force="equalized")
    loss_fn.eval()(*pair)
    with torch.no_grad():
        loss_fn.train()(*pair)
    loss_fn.step()
    assert int(loss_fn.running.count) == 0


def test_equalized_margin_gives_every_violated_anchor_the_same_push(pair):
    s = (pair[0] @ pair[1].T).requires_grad_()
    eye = torch.eye(6, dtype=torch.float64)
    margin = tt.ClusterShift(COUNTS, 0.1, 2.0)
    loss_fn = tt.MaxMargin(
        margin, force="equalized", normalize=False, directions="x2y", reduction="sum"
    )
    loss_fn(s, eye, INDEX).backward()
    pull = -s.grad.diagonal()
    violated = pull > 0
    assert int(violated.sum()) >= 2
    torch.testing.assert_close(pull[violated], pull[violated][0].expand(int(violated.sum())))


def test_equalized_siglip_scales_each_anchor_by_its_temperature(pair):
    tau = tt.ClusterShift(COUNTS, 0.05, 0.5)
    t = tau.double().at(INDEX).double()
    plain = tt.SigLIP(tau, reduction="none")(*pair, INDEX)
    found = tt.SigLIP(tau, force="equalized", reduction="none")(*pair, INDEX)
    torch.testing.assert_close(found, plain * t / t.mean())
