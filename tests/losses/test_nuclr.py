"""NUCLR: offsets of candidates against literal loops, and where they settle."""

import math

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

TILES = ["dense", (2, 3)]
SIDES = {"x2y": "y2x", "y2x": "x2y"}
N, SIZES, TAU = 5, (7, 9), 0.2
IDS = {"x2y": torch.tensor([6, 0, 3, 2, 5]), "y2x": torch.tensor([1, 8, 0, 4, 2])}


def embeddings(n=N, d=4, seed=0, noise=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = x + noise * torch.randn(n, d, generator=generator, dtype=torch.float64)
    return F.normalize(x, dim=1), F.normalize(y, dim=1)


def build(gamma=1.0, size=SIZES, tau=TAU, lr=0.05, **options):
    return tt.NUCLR(size, tau, gamma, lr=lr, **options).double()


def with_state(loss_fn, log_u=True, seed=3):
    """The same loss in the middle of a training: offsets of both signs, averages of most samples.

    Returns:
        ζ and u of each side by id; u has no entry for a sample that was never met.
    """
    generator = torch.Generator().manual_seed(seed)
    zeta, u = {}, {}
    for at, (side, size) in enumerate(zip(SIDES, SIZES, strict=True)):
        values = 0.3 * torch.randn(size, generator=generator, dtype=torch.float64)
        values[0] = 0.4
        loss_fn.offsets[side].write(torch.arange(size), {"zeta": values})
        loss_fn.largest[at] = values.max()
        zeta[side] = dict(enumerate(values.tolist()))
        u[side] = {}
        if log_u:
            met = torch.arange(1, size)
            logs = torch.randn(size - 1, generator=generator, dtype=torch.float64)
            loss_fn.tables[side].write(met, {"log_u": logs})
            u[side] = dict(zip(met.tolist(), logs.exp().tolist(), strict=True))
    return zeta, u


def literal(x, y, zeta, u, gamma, tau=TAU):
    """Encoder surrogate, values and averages by loops over anchors and their negatives.

    w_ij = e^{(h_ij − ζ_j)/τ} / (u_i + e^{−ξ/τ}/(N − 1)), ξ the largest offset of all N candidates,
    with u the average of means over the batch's B − 1 negatives.
    """
    surrogate, values, new_u = 0.0, [], {}
    for direction, (anchors, keys) in {"x2y": (x, y), "y2x": (y, x)}.items():
        other = SIDES[direction]
        offset, xi = zeta[other], max(zeta[other].values())
        for i in range(len(anchors)):
            name = int(IDS[direction][i])
            negatives = [j for j in range(len(keys)) if j != i]
            h = [anchors[i] @ keys[j] - anchors[i] @ keys[i] for j in negatives]
            popular = [offset[int(IDS[other][j])] for j in negatives]
            e = [math.exp((float(a.detach()) - z) / tau) for a, z in zip(h, popular, strict=True)]
            g = sum(e) / len(e)
            average = (1 - gamma) * u[direction].get(name, g) + gamma * g
            below = average + math.exp(-xi / tau) / (len(offset) - 1)
            for weight, difference in zip(e, h, strict=True):
                surrogate = surrogate + weight / below / len(e) * difference
            values.append(tau * math.log(below))
            new_u[direction, name] = average
    return surrogate / (2 * len(x)), sum(values) / len(values), new_u


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("gamma", [1.0, 0.3])
def test_value_weights_and_averages(gamma, tile):
    x, y = embeddings()
    loss_fn = build(gamma, tile=tile)
    zeta, u = with_state(loss_fn)
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = loss_fn(a, b, (IDS["x2y"], IDS["y2x"]))
    value.backward()
    c, d = x.clone().requires_grad_(), y.clone().requires_grad_()
    surrogate, expected, new_u = literal(
        F.normalize(c, dim=1), F.normalize(d, dim=1), zeta, u, gamma
    )
    surrogate.backward()
    assert float(value.detach()) == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(a.grad, c.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(b.grad, d.grad, rtol=1e-6, atol=1e-9)
    loss_fn.step()
    for (direction, name), average in new_u.items():
        found = loss_fn.tables[direction].read(torch.tensor([name]))["log_u"].exp()
        assert float(found) == pytest.approx(average, rel=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_gradcheck_at_gamma_one(tile):
    loss_fn = build(tile=tile)
    with_state(loss_fn)
    loss_fn.eval()
    x, y = (part.requires_grad_() for part in embeddings())
    ids = (IDS["x2y"], IDS["y2x"])
    assert torch.autograd.gradcheck(lambda x, y: loss_fn(x, y, ids), (x, y), eps=1e-6, atol=1e-7)


def masses(s, zeta, u=None, tau=TAU):
    """Total weight of each candidate over all anchors, its own among them, by loops.

    The published update's w̃_ij = e^{(h_ij − ζ_j)/τ} / (u_i + e^{−ζ_i/τ}/(N − 1)) over all N − 1
    others: the positive is a candidate with an offset of its own, so that each anchor's weights
    have the sum N − 1, and N/(N − 1)·mean_i w̃_ij is the candidate's total share.
    """
    n = len(s)
    mass = [0.0] * n
    for i in range(n):
        e = [math.exp((float(s[i, j] - s[i, i]) - float(zeta[j])) / tau) for j in range(n)]
        average = sum(e[j] for j in range(n) if j != i) / (n - 1) if u is None else float(u[i])
        below = average + e[i] / (n - 1)
        for j in range(n):
            mass[j] += e[j] / below / (n - 1)
    return torch.tensor(mass, dtype=torch.float64)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("gamma", [1.0, 0.4])
def test_the_step_of_the_offsets(gamma, tile):
    """ζ_j ← ζ_j − η·(1 − N/(N−1)·mean_i w̃_ij) on the whole data set, twice."""
    n = 6
    ids = (torch.tensor([3, 0, 5, 1, 2, 4]), torch.tensor([2, 5, 1, 0, 4, 3]))
    loss_fn = build(gamma, size=n, lr=0.05, tile=tile)
    zeta = {side: torch.zeros(n, dtype=torch.float64) for side in SIDES}
    u = {}
    for step in range(2):
        x, y = embeddings(n, seed=step)
        moved = {}
        for direction, s, keys in (("x2y", x @ y.T, ids[1]), ("y2x", y @ x.T, ids[0])):
            offsets = zeta[SIDES[direction]][keys]
            e = torch.exp((s - s.diagonal()[:, None] - offsets) / TAU).fill_diagonal_(0)
            g = e.sum(1) / (n - 1)
            u[direction] = (1 - gamma) * u.get(direction, g) + gamma * g
            mass = masses(s, offsets, u[direction])
            moved[SIDES[direction]] = (keys, offsets - 0.05 * (1 - mass))
        loss_fn(x, y, ids)
        loss_fn.step()
        for side, (keys, values) in moved.items():
            zeta[side][keys] = values
            torch.testing.assert_close(
                loss_fn.zeta(torch.arange(n), side), zeta[side], rtol=1e-6, atol=1e-9
            )


def settled(x, y, tau, steps=600, lr=0.05):
    loss_fn = build(size=len(x), tau=tau, lr=lr, tile="dense")
    ids = torch.arange(len(x))
    for _ in range(steps):
        loss_fn(x, y, ids)
        loss_fn.step()
    return loss_fn


@pytest.mark.parametrize(("noise", "tau"), [(0.5, 0.2), (3.0, 0.1)])
def test_where_the_offsets_settle_every_candidate_has_the_total_mass_one(noise, tau):
    """On well separated pairs and on hardly related ones."""
    x, y = embeddings(12, d=6, noise=noise)
    loss_fn = settled(x, y, tau)
    for side, s in (("y2x", x @ y.T), ("x2y", y @ x.T)):
        zeta = loss_fn.zeta(torch.arange(12), side)
        before = masses(s, torch.zeros(12), tau=tau)
        assert float((before - 1).abs().max()) > 0.05
        after = masses(s, zeta, tau=tau)
        torch.testing.assert_close(after, torch.ones(12).double(), rtol=0, atol=1e-3)


def test_a_popular_candidate_has_a_larger_offset():
    """Four images share one caption; with the same noise, every other caption is alone."""
    x, y = embeddings(12, d=6, noise=0.7)
    y[1:4] = y[0]
    x[:4] = F.normalize(y[:4] + 0.3 * x[:4], dim=1)
    zeta = settled(x, y, 0.2, steps=300).zeta(torch.arange(12), "y2x")
    assert float(zeta[:4].min()) > float(zeta[4:].max())


@pytest.mark.parametrize("tile", TILES)
def test_the_constant_bounds_the_weights_while_an_average_is_young(tile):
    """u ≈ 0 and γ = 0.01: without the constant the weights of an anchor have the sum 1/γ."""
    x, y = embeddings(n=N, noise=0.1)
    loss_fn = build(0.01, size=9, tile=tile, directions="x2y", normalize=False)
    ids = torch.arange(N)
    loss_fn.tables["x2y"].write(ids, {"log_u": torch.full((N,), -60.0, dtype=torch.float64)})
    s = (x @ y.T).requires_grad_()
    loss_fn(s, torch.eye(N, dtype=torch.float64), ids).backward()
    total = -N * s.grad.diagonal()
    g = torch.exp((s - s.diagonal()[:, None]).detach() / TAU).fill_diagonal_(0).sum(1) / (N - 1)
    without = g / (0.01 * g + 0.99 * math.exp(-60))
    assert float(without.min()) > 99
    below = 0.01 * g + 0.99 * math.exp(-60) + 1 / 8
    torch.testing.assert_close(total, g / below, rtol=1e-6, atol=0)
    assert float(total.max()) < 1


def test_offsets_of_samples_that_were_not_met_stay():
    x, y = embeddings()
    loss_fn = build()
    loss_fn(x, y, (IDS["x2y"], IDS["y2x"]))
    assert float(loss_fn.zeta(torch.arange(7)).abs().max()) == 0
    loss_fn.step()
    for side, size in zip(SIDES, SIZES, strict=True):
        moved = loss_fn.zeta(torch.arange(size), side).nonzero().flatten()
        assert torch.equal(moved, IDS[side].sort().values)
        visits = loss_fn.offsets[side].visits
        assert torch.equal(visits.nonzero().flatten(), IDS[side].sort().values)


def test_evaluation_moves_nothing():
    x, y = embeddings()
    loss_fn = build().eval()
    ids = (IDS["x2y"], IDS["y2x"])
    loss_fn(x, y, ids)
    with torch.no_grad():
        loss_fn.train()(x, y, ids)
    loss_fn.step()
    assert float(loss_fn.zeta(torch.arange(7)).abs().max()) == 0
    assert int(loss_fn.tables["x2y"].visits.sum()) == 0


@pytest.mark.parametrize("tile", TILES)
def test_ignored_pairs_have_no_weight(tile):
    """Neither in the mean nor among the forces."""
    x, y = embeddings()
    ids = (IDS["x2y"], IDS["y2x"])
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[0, 2] = True
    loss_fn = build(tile=tile, directions="x2y", normalize=False)
    zeta, _ = with_state(loss_fn)
    s = (x @ y.T).requires_grad_()
    loss_fn(s, torch.eye(N, dtype=torch.float64), ids, ignore=ignore).backward()
    assert float(s.grad[0, 2]) == 0
    h = (s - s.diagonal()[:, None]).detach()[0]
    offsets = [zeta["y2x"][int(i)] for i in ids[1]]
    e = {j: math.exp((float(h[j]) - offsets[j]) / TAU) for j in (1, 3, 4)}
    below = sum(e.values()) / 3 + math.exp(-max(zeta["y2x"].values()) / TAU) / (SIZES[1] - 1)
    for j, weight in e.items():
        assert float(s.grad[0, j]) * N == pytest.approx(weight / below / 3, rel=1e-6)


def test_a_resume_repeats_every_bit():
    def run(loss_fn, seeds):
        for seed in seeds:
            x, y = embeddings(seed=seed)
            generator = torch.Generator().manual_seed(seed)
            ids = tuple(torch.randperm(size, generator=generator)[:N] for size in SIZES)
            loss_fn(x, y, ids)
            loss_fn.step()
        return loss_fn

    def fresh():
        return tt.NUCLR(SIZES, 0.2, tt.Anneal(1.0, 0.3, steps=6), lr=0.1)

    whole, half = run(fresh(), range(7)), run(fresh(), range(4))
    resumed = fresh()
    resumed.load_state_dict(half.state_dict())
    run(resumed, range(4, 7))
    assert {name.split(".")[0] for name in whole.state_dict()} >= {"offsets", "tables", "largest"}
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(whole.offsets["x2y"].values, half.offsets["x2y"].values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.NUCLR(None), "NUCLR needs the size of the data set, at least 2, got None"),
        (lambda: tt.NUCLR((5, None)), r"size of the data set, at least 2, got \(5, None\)"),
        (lambda: tt.NUCLR(1), "size of the data set, at least 2, got 1"),
        (lambda: tt.NUCLR(4, lr=0.0), "lr must be > 0, got 0"),
        (lambda: tt.NUCLR(4, lr=math.nan), "lr must be a finite number, got nan"),
        (lambda: tt.NUCLR(4, 0.0), "NUCLR's temperature must stay finite and > 0"),
        (lambda: tt.NUCLR(4, gamma=0.0), "gamma must stay finite and > 0"),
        (lambda: tt.NUCLR(4, gamma=1.5), r"gamma must be in \(0, 1\]"),
        (lambda: tt.NUCLR(4, tt.Learnable(0.1, 0.01, 1.0)), "the loss falls with τ without bound"),
        (lambda: tt.NUCLR(4, tt.TaU(3)), "the loss falls with τ without bound"),
        (lambda: tt.NUCLR(4, tt.Individual(4)), "its offsets are learned from the same partition"),
        (lambda: tt.NUCLR(4, tt.TempNet(3)), "its offsets are learned from the same partition"),
        (lambda: tt.NUCLR(4, tt.DySTreSS()), "with one τ for each anchor"),
        (lambda: tt.NUCLR(4, force="equalized"), "NUCLR has no force= option"),
        (lambda: tt.NUCLR(9)(*embeddings()), "NUCLR keeps a moving average.*pass index="),
        (lambda: tt.NUCLR(3)(*embeddings(), torch.arange(N)), "unknown sample ids: 3, 4"),
        (
            lambda: tt.NUCLR((9, 3))(*embeddings(), torch.arange(N)),
            "unknown sample ids: 3, 4; the table has 3",
        ),
        (
            lambda: tt.NUCLR(4).load_state_dict(tt.NUCLR(5).state_dict()),
            "saved for a data set of 5 samples, the table has 4",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def offsets_moved(s, positives, ids, n, lr, tau):
    """ζ of the candidates after one step from 0 with γ = 1, anchor by anchor (only x anchors).

    The own pair's anchor is one of the data; the other anchors of the batch stand for all the rest.
    """
    mass, met = {j: 0.0 for j in ids}, {j: 0 for j in ids}
    own = {j: 0.0 for j in ids}
    for i, p in enumerate(positives):
        e = {j: math.exp(float(s[i, j] - s[i, p]) / tau) for j in range(s.shape[1]) if j != p}
        whole = sum(e.values()) / len(e) + 1 / (n - 1)
        own[ids[p]] += 1 / (n - 1) / whole
        for j, value in e.items():
            mass[ids[j]] += value / whole
            met[ids[j]] += 1
    return [-lr * (1 - mass[j] / met[j] - own[j]) for j in ids]


@pytest.mark.filterwarnings("ignore:.*further candidates:tauten.CompositionWarning")
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    ("rows", "positives", "ids"),
    [(2, [2, 0], [3, 4, 5, 6]), (3, [0, 0, 1], [2, 0, 1]), (3, [1, 1, 4], [6, 2, 0, 1, 3])],
)
def test_offsets_of_candidates_that_are_no_pair_of_one_row(rows, positives, ids, tile):
    x, y = embeddings(max(rows, len(ids)))
    x, y, lr = x[:rows], y[: len(ids)], 0.0625
    loss_fn = build(lr=lr, size=10, tau=0.5, directions="x2y", tile=tile)
    index = torch.arange(rows), torch.tensor(ids)
    loss_fn(x, y, index, positives=torch.tensor(positives))
    loss_fn.step()
    expected = offsets_moved(x @ y.T, positives, ids, 10, lr, 0.5)
    assert loss_fn.zeta(index[1], "y2x").tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*further candidates:tauten.CompositionWarning")
def test_columns_that_are_no_anchors_weigh_no_candidate():
    """Both ways with two further columns: offsets of x move by the anchors of y alone."""
    x, y = embeddings(5)
    ids = torch.arange(3), torch.arange(5)
    loss_fn = build(lr=0.0625, size=10, tau=0.5)
    loss_fn(x[:3], y, ids)
    loss_fn.step()
    expected = offsets_moved((x[:3] @ y[:3].T).T, [0, 1, 2], [0, 1, 2], 10, 0.0625, 0.5)
    assert loss_fn.zeta(ids[0], "x2y").tolist() == pytest.approx(expected, abs=1e-9)
