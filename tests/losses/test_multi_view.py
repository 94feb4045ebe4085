"""Losses over several views against loops over their formulas in float64."""

from itertools import combinations, permutations

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D = 5, 4
INDEX = torch.tensor([4, 0, 3, 2, 1])
TAU = tt.ClusterShift([1, 3, 9, 27, 81], 0.1, 0.5)
VALUES = 0.1 + 0.4 * (torch.tensor([1.0, 3, 9, 27, 81]).double()[INDEX] - 1) / 80
CLASSES = {"mv-infonce": tt.MVInfoNCE, "mv-dhel": tt.MVDHEL}


def of(count):
    generator = torch.Generator().manual_seed(5)
    base, *noise = (
        torch.randn(N, D, generator=generator, dtype=torch.float64) for _ in range(count + 1)
    )
    return [(base + part).requires_grad_() for part in noise]


def mv_infonce(views, tau):
    views, losses = [F.normalize(view, dim=1) for view in views], []
    numbers = range(len(views))
    for i in range(N):
        own = [(views[a][i] @ views[b][i] / tau[i]).exp() for a, b in permutations(numbers, 2)]
        others = [
            (views[a][i] @ views[b][j] / tau[i]).exp()
            for a in numbers
            for b in numbers
            for j in range(N)
            if (b, j) != (a, i)
        ]
        losses.append(-(sum(own) / sum(others)).log())
    return torch.stack(losses)


def mv_dhel(views, tau):
    views, losses = [F.normalize(view, dim=1) for view in views], []
    for i in range(N):
        own = sum((a[i] @ b[i] / tau[i]).exp() for a, b in combinations(views, 2))
        spread = 1.0
        for view in views:
            spread = spread * sum((view[i] @ view[j] / tau[i]).exp() for j in range(N) if j != i)
        losses.append(-(own / spread).log())
    return torch.stack(losses)


FORMULAS = {"mv-infonce": mv_infonce, "mv-dhel": mv_dhel}


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", CLASSES)
def test_it_equals_the_formula(name, count, tile):
    views, weight = of(count), torch.linspace(-1, 2, N, dtype=torch.float64)
    expected = FORMULAS[name](views, VALUES)
    found = CLASSES[name](TAU, reduction="none", tile=tile).double()(views, INDEX)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    ours = torch.autograd.grad(found @ weight, views)
    theirs = torch.autograd.grad(expected @ weight, views)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CLASSES)
def test_reductions_and_weights_are_over_samples(name):
    views, rarity = of(3), tt.ClusterShift([1, 3, 9, 27, 81], 0.5, 2.0)
    each = FORMULAS[name](views, torch.full((N,), 0.2)) * rarity.at(INDEX)
    robust = ((each / 0.3).softmax(0) * each).sum()
    for reduction, expected in (
        ("mean", each.mean()),
        ("sum", each.sum()),
        (tt.DRO(0.3), robust),
    ):
        loss_fn = CLASSES[name](0.2, weight=rarity, reduction=reduction).double()
        torch.testing.assert_close(loss_fn(views, INDEX), expected)


def test_the_temperature_of_mv_infonce_can_be_learned():
    tau = tt.Learnable(0.2, 0.01, 1.0)
    tt.MVInfoNCE(tau)(of(3)).backward()
    assert float(tau.parameter.grad.abs()) > 0


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(
    ("views", "message"),
    [
        (lambda: of(1), "a list of at least 2 views"),
        (lambda: of(2)[0], "a list of at least 2 views"),
        (lambda: [of(2)[0], of(2)[1][:3]], "a list of at least 2 views"),
        (lambda: [view[:1] for view in of(3)], "at least 2 samples in a batch, got 1"),
    ],
)
def test_what_is_no_batch_of_views_is_refused(name, views, message):
    with pytest.raises(ValueError, match=message):
        CLASSES[name](0.1)(views())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.MVDHEL(tt.Learnable(0.1, 0.01, 1.0)), "without bound"),
        (lambda: tt.MVDHEL(tt.DySTreSS()), "one temperature for all pairs"),
        (lambda: tt.MVInfoNCE(tt.DySTreSS()), "one temperature for all pairs"),
        (lambda: tt.MVInfoNCE(tt.Individual(9, rho=1.0)), "robust objective"),
    ],
)
def test_temperatures_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_index_names_samples_not_rows():
    with pytest.raises(ValueError, match="index must name every sample, 5 in each view, got 10"):
        tt.MVInfoNCE(TAU)(of(2), INDEX.repeat(2))


def test_pairs_are_refused():
    x, y = of(2)
    loss_fn = tt.MVInfoNCE(0.1)
    with pytest.raises(ValueError, match="takes a list of views"):
        tt.forces(loss_fn, x, y)
