"""NeuCLIP against its objective in float64, and against what it estimates."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D = 6, 5
INDEX = torch.tensor([5, 0, 3, 2, 4, 1])
TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243], 0.2, 0.6)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(5)
    x, y = torch.randn(2, N, D, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


def made(control, **options):
    """Return a loss whose networks have started from another batch."""
    loss_fn = tt.NeuCLIP(D, control, prototypes=7, **options).double()
    x, y = torch.randn(2, 4, D, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    loss_fn(x, y, torch.arange(4))
    loss_fn.step()
    return loss_fn


def formula(pair, loss_fn, tau, rho):
    x, y = (F.normalize(side, dim=1) for side in pair)
    of_sides = []
    for direction, s, z in (("x2y", x @ y.T, x), ("y2x", y @ x.T, y)):
        network, losses = loss_fn.normalizers[direction], []
        for i in range(N):
            h = torch.stack([(s[i, j] - s[i, i]) / tau[i] for j in range(N) if j != i])
            logits = (z[i].detach() @ network.prototypes.T) / tau[i].detach() + network.weights
            alpha = logits.exp().sum().log() - (s[i, i] / tau[i]).detach()
            losses.append(tau[i] * ((-alpha).exp() * h.exp().mean() + alpha - 1 + rho))
        of_sides.append(torch.stack(losses))
    return sum(of_sides) / 2


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
def test_it_equals_the_objective(pair, tile):
    loss_fn = made(TAU, rho=0.3, reduction="none", tile=tile)
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    found, expected = (
        loss_fn(*pair, INDEX),
        formula(pair, loss_fn, TAU.double().at(INDEX).double(), 0.3),
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    wanted = [*pair, *loss_fn.parameters()]
    ours = torch.autograd.grad(found @ weight, wanted)
    theirs = torch.autograd.grad(expected @ weight, wanted)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_a_learned_temperature_has_the_gradient_of_the_objective(pair):
    control = tt.Learnable(0.4, 0.1, 1.0)
    loss_fn = made(control, rho=0.3).double()
    log = torch.full((N,), 0.4, dtype=torch.float64).log().requires_grad_()
    expected = formula(pair, loss_fn, log.exp(), 0.3).mean()
    (found,) = torch.autograd.grad(loss_fn(*pair), control.parameter)
    (each,) = torch.autograd.grad(expected, log)
    assert float(found) == pytest.approx(float(each.sum()), rel=1e-6)


def test_it_starts_as_the_partition_of_the_first_keys(pair):
    """Before the first step its value and gradient are SogCLR's; after it α is that of the keys."""
    loss_fn = tt.NeuCLIP(D, 0.5, prototypes=N).double()
    exact = tt.SogCLR(N, 0.5, 1.0).double()
    first, told = loss_fn(*pair), exact(*pair, INDEX)
    torch.testing.assert_close(first, told)
    wanted = [*pair, *loss_fn.parameters()]
    ours = torch.autograd.grad(first, wanted)
    torch.testing.assert_close(ours[:2], torch.autograd.grad(told, pair))
    assert all(bool((grad == 0).all()) for grad in ours[2:])
    loss_fn.step()
    x, y = (F.normalize(side.detach(), dim=1) for side in pair)
    found = loss_fn.normalizers["x2y"](x, torch.tensor(1 / 0.5))
    torch.testing.assert_close(found, (x @ y.T / 0.5).logsumexp(1) - torch.tensor(6.0).log())


def test_a_collapsed_batch_does_not_overflow_at_a_low_temperature():
    generator = torch.Generator().manual_seed(3)
    loss_fn = tt.NeuCLIP(16, 0.01, prototypes=8)
    for _ in range(3):
        x, y = 1 + 0.05 * torch.randn(2, 12, 16, generator=generator)
        loss = loss_fn(x.requires_grad_(), y)
        loss.backward()
        assert bool(x.grad.isfinite().all())
        assert float(loss.detach()) < 10
        loss_fn.step()


def test_its_least_value_over_the_network_is_that_of_the_exact_partition(pair):
    pair = [side.detach() for side in pair]
    exact = float(tt.SogCLR(N, 0.5, 1.0).double()(*pair, INDEX))
    loss_fn = made(0.5)
    optimizer = torch.optim.Adam(loss_fn.parameters(), 0.05)
    values = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = loss_fn(*pair)
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert min(values) >= exact - 1e-12
    assert values[-1] - exact < 0.02 * (values[0] - exact)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.NeuCLIP(D, tt.Learnable(0.1, 0.01, 1.0)), "give rho > 0"),
        (lambda: tt.NeuCLIP(D, tt.DySTreSS()), "one τ for each anchor"),
        (lambda: tt.NeuCLIP(D, 0.1, -1.0), "rho must be >= 0"),
        (lambda: tt.NeuCLIP(D, tt.Individual(9, rho=1.0), 2.0), "brings rho=1"),
        (lambda: tt.NeuCLIP(0, 0.1), "dim must be"),
    ],
)
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_another_width_is_refused():
    x = torch.randn(4, 5)
    with pytest.raises(ValueError, match=r"NeuCLIP\(dim=7\) was given embeddings of width 5"):
        tt.NeuCLIP(7, 0.1)(x, x + 1)
