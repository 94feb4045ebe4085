"""Several heads with learned temperatures of pairs, against the formula in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from compared import check
from tauten.losses import amcl

HEADS, N, D = 2, 6, 4


@pytest.fixture
def sides():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, HEADS, N, D, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


def built(**options):
    torch.manual_seed(0)
    return tt.AMCL(HEADS, D, low=0.1, high=0.9, beta=1.3, hidden=5, **options).double()


@pytest.mark.parametrize("pairs", [1 << 16, 7])
def test_it_equals_the_formula(sides, pairs, monkeypatch):
    monkeypatch.setattr(amcl, "_PAIRS", pairs)
    loss_fn, (x, y) = built(), sides
    expected = 0
    for c, net in enumerate(loss_fn.temperatures):
        for i in range(N):

            def score(j, c=c, i=i, net=net):
                a, b = F.normalize(x[c, i], dim=0), F.normalize(y[c, j], dim=0)
                both = net.first(a) + net.second(b)
                tau = 0.1 + 0.8 * torch.sigmoid(net.last(both.relu()))[0]
                return a @ b / tau, D / 2 * tau.log() + 1 / tau

            s, price = score(i)
            hard, price_of_hard = max(
                (score(j) for j in range(N) if j != i), key=lambda pair: float(pair[0])
            )
            expected = expected + (hard - s + 1.3 * (price - price_of_hard)) / N
    found = loss_fn(x, y)
    check(found, expected, [x, y, *loss_fn.parameters()])


@pytest.mark.parametrize("cosine", [0.2, 0.9])
def test_the_best_temperature_of_a_positive_lies_inside(cosine):
    """τ⁺ = 2(β − s)/(β·d); the term of a negative falls to the lower bound."""
    beta, dim = 1.5, 4
    loss_fn = tt.AMCL(1, dim, beta=beta)
    tau = torch.linspace(0.05, 1.0, 100001, dtype=torch.float64)
    pull = beta * loss_fn._price(tau) - cosine / tau
    assert float(tau[pull.argmin()]) == pytest.approx(2 * (beta - cosine) / (beta * dim), abs=1e-4)
    push = cosine / tau - beta * loss_fn._price(tau)
    assert int(push.argmin()) == 0


def test_temperatures_stay_in_their_bounds_and_find_the_optimum():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 32, 4, generator=generator)
    y = x + 0.1 * torch.randn(1, 32, 4, generator=generator)
    torch.manual_seed(0)
    loss_fn = tt.AMCL(1, 4, low=0.05, high=0.6, beta=1.5)
    optimizer = torch.optim.Adam(loss_fn.parameters(), lr=0.02)
    values = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_fn(x, y)
        loss.backward()
        optimizer.step()
        values.append(float(loss))
    assert values[-1] < values[0]
    tau = loss_fn.temperatures[0](F.normalize(x[0], dim=1), F.normalize(y[0], dim=1))
    assert 0.05 < float(tau.min()) <= float(tau.max()) < 0.6


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: tt.AMCL(2, 4, low=0.0), "temperatures need bounds 0 < low < high"),
        (lambda x: tt.AMCL(2, 4, high=float("inf")), "high"),
        (lambda x: tt.AMCL(2, 4, beta=1.0), "beta must be above 1, the largest cosine"),
        (lambda x: tt.AMCL(0, 4), "heads must be at least 1, got 0"),
        (lambda x: tt.AMCL(2, 4, ranks="ring"), "ranks must be 'auto' or 'local'"),
        (lambda x: tt.AMCL(3, 4)(x, x), r"3 times \(N, 4\), .* got 2 and 2"),
        (lambda x: tt.AMCL(2, 4)(x[:, 0], x[:, 0]), r"2 times \(N, 4\), .* of \[\(4,\)\]"),
        (lambda x: tt.AMCL(2, 4)(x.long(), x.long()), r"2 times \(N, 4\), floating"),
        (lambda x: tt.AMCL(2, 4)(x[:, :1], x[:, :1]), "at least 2 samples"),
        (lambda x: tt.AMCL(2, 4)(x * float("nan"), x), "NaN or infinite"),
    ],
)
def test_what_does_not_fit_is_refused(sides, make, said):
    with pytest.raises(ValueError, match=said):
        make(sides[0].float())
