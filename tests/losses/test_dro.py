"""The robust reduction against its formula in float64, for every kind of loss."""

import pytest
import torch
from torch.nn import functional as F

import cases
import tauten as tt
from tauten.training import specs

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


def test_a_learned_temperature_follows_the_dual(pair):
    """λ·log mean exp(ℓ/λ) + (λ − λ₀)ρ, whose minimum over λ is the worst case within KL = ρ."""
    learned = tt.Learnable(0.3, 0.01, 5.0)
    loss_fn = tt.InfoNCE(0.1, reduction=tt.DRO(learned, rho=0.4)).double()
    each = tt.InfoNCE(0.1, reduction="none").double()(*pair)
    log = torch.tensor([0.3], dtype=torch.float64).log().requires_grad_()
    value = log.exp()
    expected = (value * ((each / value).logsumexp(0) - torch.tensor(float(N)).log())).sum()
    expected = expected + (value - 0.01).sum() * 0.4
    found = loss_fn(*pair)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    ours = torch.autograd.grad(found, [*pair, learned.parameter])
    theirs = torch.autograd.grad(expected, [*pair, log])
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    optimizer = torch.optim.SGD(loss_fn.parameters(), 0.4)
    for _ in range(100):
        optimizer.zero_grad()
        loss_fn(*pair).backward()
        optimizer.step()
        loss_fn.step()
    weights = (each.detach() / float(learned.values(INDEX, 0).detach())).softmax(0)
    assert float((weights * (weights * N).log()).sum()) == pytest.approx(0.4, abs=1e-3)


def test_its_temperature_may_be_a_schedule(pair):
    loss_fn = tt.InfoNCE(0.1, reduction=tt.DRO(tt.Anneal(1.0, 0.2, 2))).double()
    for value in (1.0, 0.6, 0.2):
        expected = tt.InfoNCE(0.1, reduction=tt.DRO(value)).double()(*pair)
        torch.testing.assert_close(loss_fn(*pair), expected)
        loss_fn.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.DRO(tt.Learnable(0.3, 0.1, 1.0)), "without rho: the loss falls as λ grows"),
        (lambda: tt.DRO(0.3, rho=0.4), "rho must be 0 for a temperature that is not learned"),
        (lambda: tt.DRO(TAU), "all anchors of a batch share it"),
        (lambda: tt.DRO(tt.MACL()), "all anchors of a batch share it"),
        (lambda: tt.DRO(tt.Cosine(-0.1, 0.4, 6)), "DRO's temperature must be > 0"),
    ],
)
def test_temperatures_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_training_knows_it(rho):
    spec = specs.loss("infonce", dro=2.0, dro_rho=rho)
    loss_fn = spec.build(specs.control("constant"), cases.context())
    assert isinstance(loss_fn.reduction, tt.DRO)
    assert loss_fn.reduction.rho == rho
    assert [name for name, _ in loss_fn.named_parameters()] == ["robust.parameter"] * (rho > 0)
