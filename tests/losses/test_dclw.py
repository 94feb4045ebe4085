"""DCLW against its formula in float64: values, gradients, weights."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D = 6, 5
COUNTS = [1, 3, 9, 27, 81, 243]
INDEX = torch.tensor([5, 0, 3, 2, 2, 1])
TAU = tt.ClusterShift(COUNTS, 0.1, 0.5)
TILES = ["dense", (2, 3)]


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(N, D, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


def formula(x, y, tau, sigma, directions, ignore=None):
    """Loss of each pair, literally."""
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    raised = (s.diagonal().detach() / sigma).exp()
    weights = 2 - raised / (raised.sum() / N)
    of_pairs = []
    for i in range(N):
        sides = []
        for direction in ("x2y", "y2x"):
            if directions not in ("both", direction):
                continue
            others = [j for j in range(N) if j != i]
            at = [(i, j) if direction == "x2y" else (j, i) for j in others]
            kept = [s[pair] / tau[i] for pair in at if ignore is None or not ignore[pair]]
            pull = weights[i] * s[i, i] / tau[i]
            sides.append(torch.stack(kept).logsumexp(0) - pull if kept else 0 * pull)
        of_pairs.append(sum(sides) / len(sides))
    return torch.stack(of_pairs)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
def test_it_equals_the_formula(pair, directions, tile):
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[1, [0, 2, 3, 4, 5]] = ignore[3, 5] = True
    tau = 0.1 + 0.4 * (torch.tensor(COUNTS)[INDEX] - 1).double() / 242
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    loss_fn = tt.DCLW(TAU, 0.3, directions=directions, reduction="none", tile=tile).double()
    for extra in ({}, {"ignore": ignore}):
        found = loss_fn(*pair, INDEX, **extra)
        expected = formula(*pair, tau, 0.3, directions, **extra)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        ours = torch.autograd.grad(found @ weight, pair)
        theirs = torch.autograd.grad(expected @ weight, pair)
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_the_pull_is_the_weight_over_tau_and_its_mean_is_one():
    s = 0.3 * torch.randn(N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    s.requires_grad_()
    loss_fn = tt.DCLW(0.2, directions="x2y", normalize=False, reduction="sum").double()
    (grad,) = torch.autograd.grad(loss_fn(s, torch.eye(N, dtype=s.dtype)), s)
    weights = -0.2 * grad.diagonal()
    assert float(weights.mean()) == pytest.approx(1.0, abs=1e-12)
    raised = (s.detach().diagonal() / 0.5).exp()
    torch.testing.assert_close(weights, 2 - raised / raised.mean())


def test_a_wide_sigma_is_dcl_and_a_small_one_does_not_overflow(pair):
    torch.testing.assert_close(
        tt.DCLW(0.1, 1e9).double()(*pair), tt.DCL(0.1).double()(*pair), rtol=1e-7, atol=1e-7
    )
    x, y = (side.detach().float() for side in pair)
    assert bool(torch.isfinite(tt.DCLW(0.1, 1e-3)(x, y)))


def test_further_candidates_have_no_part_in_the_weights(pair):
    x, y = pair
    s = F.normalize(x[:4], dim=1) @ F.normalize(y, dim=1).T
    raised = (s.diagonal() / 0.5).exp()
    off = s.masked_fill(torch.eye(4, N, dtype=torch.bool), -torch.inf)
    weights = 2 - raised / raised.mean()
    expected = (off / 0.1).logsumexp(1) - weights * s.diagonal() / 0.1
    back = (off[:, :4] / 0.1).logsumexp(0) - weights * s.diagonal() / 0.1
    found = tt.DCLW(0.1, reduction="none").double()(x[:4], y)
    torch.testing.assert_close(found, (expected + back) / 2)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), "a"])
def test_sigma_must_be_positive(sigma):
    with pytest.raises(ValueError, match="sigma must be"):
        tt.DCLW(0.1, sigma)


def test_temperatures_of_the_robust_objective_are_refused():
    with pytest.raises(ValueError, match="cannot be DCLW's temperature: the robust objective has"):
        tt.DCLW(tt.Individual(10, rho=1.0))
