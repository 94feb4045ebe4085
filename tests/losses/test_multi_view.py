"""Losses over several views against loops over their formulas in float64."""

from copy import deepcopy
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


PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0], [0, 0, 0]]).bool()


def mv_infonce_of(views, tau, there):
    views, losses = [F.normalize(view, dim=1) for view in views], {}
    pairs = [(a, i) for a in range(3) for i in range(N) if there[i, a]]
    for i in range(N):
        own = [(a, i) for a in range(3) if there[i, a]]
        if len(own) > 1:
            s = lambda p, q: views[p[0]][p[1]] @ views[q[0]][q[1]] / tau[i]  # noqa: B023, E731
            near = torch.stack([s(p, q) for p, q in permutations(own, 2)])
            every = torch.stack([s(p, q) for p in own for q in pairs if p != q])
            losses[i] = every.logsumexp(0) - near.logsumexp(0)
    return losses


def mv_dhel_of(views, tau, there):
    views, losses = [F.normalize(view, dim=1) for view in views], {}
    for i in range(N):
        own = [a for a in range(3) if there[i, a]]
        if len(own) > 1:
            near = [views[a][i] @ views[b][i] / tau[i] for a, b in combinations(own, 2)]
            losses[i] = -torch.stack(near).logsumexp(0)
            for a in own:
                others = [j for j in range(N) if j != i and there[j, a]]
                if others:
                    losses[i] = losses[i] + (views[a][others] @ views[a][i] / tau[i]).logsumexp(0)
    return losses


OF_PRESENT = {"mv-infonce": mv_infonce_of, "mv-dhel": mv_dhel_of}


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("name", CLASSES)
def test_samples_may_lack_views(name, tile):
    views = of(3)
    known = OF_PRESENT[name](views, deepcopy(TAU).double().at(INDEX), PRESENT)
    expected = torch.stack([known.get(i, torch.zeros((), dtype=torch.float64)) for i in range(N)])
    holes = [
        torch.where(PRESENT[:, a, None], view, torch.nan).detach().requires_grad_()
        for a, view in enumerate(views)
    ]
    found = CLASSES[name](TAU, reduction="none", tile=tile).double()(holes, INDEX, present=PRESENT)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    ours = torch.autograd.grad(found @ weight, holes)
    theirs = torch.autograd.grad(expected @ weight, views)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    mean = CLASSES[name](TAU, tile=tile).double()(holes, INDEX, present=PRESENT)
    torch.testing.assert_close(mean, torch.stack([*known.values()]).mean(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CLASSES)
def test_views_that_are_all_there_change_nothing(name):
    views, loss_fn = of(3), CLASSES[name](TAU)
    every = torch.ones(N, 3, dtype=torch.bool)
    found = loss_fn(views, INDEX, present=every)
    torch.testing.assert_close(found, loss_fn(views, INDEX), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("present", "message"),
    [
        (PRESENT.int(), r"present must be \(N, M\) = \(5, 3\) of torch.bool, got .* torch.int32"),
        (PRESENT.T, r"got \(3, 5\)"),
        ([[True]], "got list"),
        (torch.eye(5, 3).bool(), "needs a sample with two views, and present= has none"),
        (torch.zeros(5, 3).bool(), "needs a sample with two views"),
    ],
)
def test_what_is_no_table_of_views_is_refused(present, message):
    with pytest.raises(ValueError, match=message):
        tt.MVInfoNCE(0.1)(of(3), present=present)
