"""The robust reduction against its formula in float64, for every kind of loss."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D = 6, 5
INDEX = torch.tensor([5, 0, 3, 2, 4, 1])
TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243], 0.1, 0.5)
LOSSES = {
    "infonce": lambda **k: tt.InfoNCE(TAU, **k),
    "infonce-tiled": lambda **k: tt.InfoNCE(TAU, tile=(2, 3), **k),
    "dcl-x2y": lambda **k: tt.DCL(TAU, directions="x2y", **k),
    "siglip": lambda **k: tt.SigLIP(TAU, **k),
    "max-margin": lambda **k: tt.MaxMargin(TAU, **k),
    "sogclr": lambda **k: tt.SogCLR(N, 0.2, **k),
    "weighted": lambda **k: tt.InfoNCE(0.1, weight=TAU, **k),
}


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(N, D, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_the_mean_under_a_softmax_of_the_losses(pair, name):
    each = LOSSES[name](reduction="none").double()(*pair, INDEX)
    weights = (each.detach() / 0.3).exp()
    expected = (weights / weights.sum()) @ each
    found = LOSSES[name](reduction=tt.DRO(0.3)).double()(*pair, INDEX)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    ours, theirs = torch.autograd.grad(found, pair), torch.autograd.grad(expected, pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_its_gradient_is_that_of_the_soft_maximum(pair):
    each = tt.InfoNCE(0.1, reduction="none").double()(*pair)
    soft = 0.3 * ((each / 0.3).logsumexp(0))
    found = tt.InfoNCE(0.1, reduction=tt.DRO(0.3)).double()(*pair)
    ours, theirs = torch.autograd.grad(found, pair), torch.autograd.grad(soft, pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_ends_are_the_mean_and_the_largest(pair):
    each = tt.InfoNCE(0.1, reduction="none").double()(*pair)
    for temperature, expected in ((1e9, each.mean()), (1e-4, each.max())):
        found = tt.InfoNCE(0.1, reduction=tt.DRO(temperature)).double()(*pair)
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)


def test_sides_that_make_no_pairs_have_weights_of_their_own(pair):
    labels = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1, 2, 3])
    x, y = pair[0], pair[1][:4]
    logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / 0.1
    equal = (labels[0][:, None] == labels[1]).double()
    expected = torch.zeros((), dtype=torch.float64)
    for side, positive in ((logits, equal), (logits.T[:3], equal.T[:3])):
        each = side.logsumexp(1) - (positive * side).sum(1) / positive.sum(1)
        expected = expected + ((each / 0.3).softmax(0) * each).sum() / 2
    found = tt.InfoNCE(0.1, reduction=tt.DRO(0.3)).double()(x, y, labels=labels)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan"), "a"])
def test_its_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match="DRO's temperature must be"):
        tt.DRO(temperature)


def test_a_loss_that_is_no_number_is_named(pair):
    x = pair[0].detach().clone()
    x[2, 0] = torch.nan
    with pytest.raises(tt.NonFiniteLossError, match="1 of 6 rows: 2"):
        tt.InfoNCE(0.1, reduction=tt.DRO(0.3))(x, pair[1])
