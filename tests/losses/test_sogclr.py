"""SogCLR and iSogCLR: hand-checked vectors, and the bugs of the public codes that they lack."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.pairwise import reduce_dense

H = torch.tensor([[0.0, -0.5, -0.9]], dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)
IDS = (torch.tensor([1]), torch.tensor([0, 2, 3]))
ONE = torch.tensor([0])
TILES = ["dense", 2]


def build(rho=0.3, gamma=1.0, tau=0.2, **options):
    settings = {"tau_range": (0.001, 1.0), "lr": 0.03, "beta": 0.9, "max_gradient": None}
    settings |= {"normalize": False, "directions": "x2y", **options}
    return tt.iSogCLR(4, rho=rho, gamma=gamma, tau_init=tau, **settings)


def anchor(loss_fn, s=H):
    return loss_fn(s, EYE, IDS, positives=ONE)


def remember(loss_fn, u):
    loss_fn.tables["x2y"].write(IDS[0], {"log_u": torch.tensor([u]).log()})


def learned(loss_fn, ids, direction="x2y"):
    return loss_fn.strength.tables[direction].read(ids)


def gradient_of_tau(loss_fn, s=H):
    """G, read off one step of τ without momentum: τ − η·G."""
    before = float(loss_fn.tau(IDS[0]))
    anchor(loss_fn, s)
    loss_fn.step()
    return float(learned(loss_fn, IDS[0])["momentum"]) / loss_fn.strength.beta, before


@pytest.mark.parametrize("tile", TILES)
def test_t5_value_and_gradient_of_the_temperature(tile):
    loss_fn = build(tile=tile)
    assert float(anchor(loss_fn)) == pytest.approx(-0.5532438, abs=1e-6)
    gradient, _ = gradient_of_tau(loss_fn)
    assert gradient == pytest.approx(-0.0278133, abs=1e-6)
    u = math.exp(float(loss_fn.tables["x2y"].read(IDS[0])["log_u"]))
    assert u == pytest.approx(0.0465970, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_t5_the_gradient_is_the_derivative_of_the_objective(tile):
    step = 1e-3
    up, down = (float(anchor(build(tau=0.2 + shift, tile=tile))) for shift in (step, -step))
    assert (up - down) / (2 * step) == pytest.approx(-0.0278133, abs=1e-5)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(("beta", "tau"), [(0.9, 0.2014238), (0.5, 0.2007910)])
def test_t5b_moving_average_weights_and_the_step_of_tau(tile, beta, tau):
    loss_fn = build(gamma=0.8, beta=beta, tile=tile)
    remember(loss_fn, 0.05)
    s = H.clone().requires_grad_()
    anchor(loss_fn, s).backward()
    weights = torch.tensor([1.7362345, 0.2349738], dtype=torch.float64)
    torch.testing.assert_close(s.grad[0, 1:], weights / 2, atol=1e-6, rtol=0)
    assert float(s.grad[0, 0]) == pytest.approx(-float(weights.sum()) / 2, abs=1e-6)
    assert float((weights / 2 * H[0, 1:]).sum()) == pytest.approx(-0.5397968, abs=1e-6)
    loss_fn.step()
    row = loss_fn.tables["x2y"].read(IDS[0])
    assert math.exp(float(row["log_u"])) == pytest.approx(0.0472776, abs=1e-6)
    assert float(learned(loss_fn, IDS[0])["momentum"]) == pytest.approx(beta * -0.0527345, abs=1e-6)
    assert float(loss_fn.tau(IDS[0])) == pytest.approx(tau, abs=1e-6)


def test_t5c_a_shift_of_all_similarities_changes_nothing():
    shifted = H + 0.8
    assert gradient_of_tau(build(), shifted)[0] == pytest.approx(-0.0278133, abs=1e-6)


@pytest.mark.parametrize(("rho", "tau"), [(0.1, 0.4239789), (0.3, 0.2139475), (0.6, 0.1010752)])
def test_t5d_fixed_points(rho, tau):
    assert gradient_of_tau(build(rho=rho, tau=tau))[0] == pytest.approx(0.0, abs=1e-5)


def test_t5e_equal_negatives_and_a_single_one_have_gradient_rho():
    equal = torch.tensor([[0.0, -0.5, -0.5]], dtype=torch.float64)
    assert gradient_of_tau(build(rho=0.7), equal)[0] == pytest.approx(0.7, abs=1e-6)
    pair = F.normalize(torch.randn(2, 3, generator=torch.Generator().manual_seed(0)))
    loss_fn = tt.iSogCLR(2, rho=0.7, gamma=1.0, tau_init=0.2)
    loss_fn(pair, pair.flip(1), torch.arange(2))
    loss_fn.step()
    momentum = learned(loss_fn, torch.arange(2))["momentum"]
    torch.testing.assert_close(momentum, torch.full((2,), 0.9 * 0.7), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("visits", "share"), [(1, 0.2), (2, 0.36), (5, 0.67232)])
def test_t5f_the_recursion_from_zero_and_no_inflation_on_a_first_visit(visits, share):
    from_zero, fresh = build(gamma=0.2, lr=1e-12), build(gamma=0.2, lr=1e-12)
    remember(from_zero, 0.0)
    for loss_fn in (from_zero, fresh):
        for _ in range(visits):
            anchor(loss_fn)
            loss_fn.step()
    u, true = (
        math.exp(float(loss_fn.tables["x2y"].read(IDS[0])["log_u"]))
        for loss_fn in (from_zero, fresh)
    )
    assert u == pytest.approx(share * 0.0465970, abs=1e-6)
    assert true == pytest.approx(0.0465970, abs=1e-6)


def test_t5g_the_logarithm_equals_a_state_with_a_running_maximum():
    generator = torch.Generator().manual_seed(4)
    loss_fn = build(gamma=0.6, lr=1e-12)
    s, b = 0.0, 0.0
    for visit in range(6):
        row = torch.cat([torch.zeros(1, 1), torch.randn(1, 2, generator=generator)], 1).double()
        z = row[0, 1:].numpy() / 0.2
        gamma = 0.6 if visit else 1.0
        peak = max(b, z.max())
        s = (1 - gamma) * s * math.exp(b - peak) + gamma * float(np.exp(z - peak).mean())
        b = peak
        anchor(loss_fn, row)
        loss_fn.step()
        found = float(loss_fn.tables["x2y"].read(IDS[0])["log_u"])
        assert found == pytest.approx(math.log(s) + b, rel=1e-5, abs=1e-5)


def batch(n=6, d=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=dtype)
    y = 0.6 * x + torch.randn(n, d, generator=generator, dtype=dtype)
    return F.normalize(x, dim=1), F.normalize(y, dim=1)


@pytest.mark.parametrize("seed", range(5))
def test_gamma_one_gives_rho_minus_kl(seed):
    x, y = batch(n=9, seed=seed)
    loss_fn = tt.iSogCLR(9, rho=0.5, gamma=1.0, tau_init=0.15, beta=1.0, max_gradient=None)
    loss_fn(x, y, torch.arange(9))
    loss_fn.step()
    for direction, s in (("x2y", x @ y.T), ("y2x", y @ x.T)):
        p = (s / 0.15).masked_fill(torch.eye(9, dtype=torch.bool), -math.inf).softmax(1)
        kl = torch.special.xlogy(p, p * 8).sum(1)
        found = learned(loss_fn, torch.arange(9), direction)["momentum"].double()
        torch.testing.assert_close(found, 0.5 - kl, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("tile", TILES)
def test_the_whole_data_set_as_one_batch_is_the_global_objective(tile):
    x, y = batch()
    loss_fn = tt.SogCLR(6, temperature=0.2, gamma=1.0, tile=tile)
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    loss_fn(a, b, torch.arange(6)).backward()
    c, d = x.clone().requires_grad_(), y.clone().requires_grad_()
    s = F.normalize(c, dim=1) @ F.normalize(d, dim=1).T
    off = ~torch.eye(6, dtype=torch.bool)
    total = 0.0
    for m in (s, s.T):
        h = (m - m.diagonal().unsqueeze(1)) / 0.2
        total = total + 0.2 * (h.masked_fill(~off, -math.inf).logsumexp(1) - math.log(5)).mean() / 2
    total.backward()
    torch.testing.assert_close(a.grad, c.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(b.grad, d.grad, rtol=1e-6, atol=1e-9)
    assert float(loss_fn(x, y, torch.arange(6))) == pytest.approx(float(total.detach()), rel=1e-6)


def test_the_positive_is_no_negative():
    """With orthogonal negatives g is exactly exp(−1/τ)."""
    eye = torch.eye(4)
    loss_fn = tt.SogCLR(4, temperature=0.5, gamma=1.0)
    loss_fn(eye, eye, torch.arange(4))
    loss_fn.step()
    log_u = loss_fn.tables["x2y"].read(torch.arange(4))["log_u"]
    torch.testing.assert_close(log_u, torch.full((4,), -2.0))


def test_a_partly_new_batch_inflates_nobody():
    x, y = batch()
    loss_fn = tt.SogCLR(6, temperature=0.2, gamma=0.3)
    loss_fn(x[:3], y[:3], torch.arange(3))
    loss_fn.step()
    a = x.clone().requires_grad_()
    loss_fn(a, y, torch.arange(6)).backward()
    fresh = tt.SogCLR(6, temperature=0.2, gamma=0.3)
    loss_fn.step()
    fresh(x, y, torch.arange(6))
    fresh.step()
    new = torch.arange(3, 6)
    torch.testing.assert_close(
        loss_fn.tables["x2y"].read(new)["log_u"], fresh.tables["x2y"].read(new)["log_u"]
    )


def test_small_batches_reach_the_global_partition():
    """Fixed embeddings, distinct ids per batch, γ falling to 0.005: the error vanishes."""
    n, size = 64, 8
    x, y = batch(n=n, d=8, seed=3)
    s = (x @ y.T - (x * y).sum(1, keepdim=True)) / 0.3
    exact = s.masked_fill(torch.eye(n, dtype=torch.bool), -math.inf).logsumexp(1) - math.log(n - 1)
    loss_fn = tt.SogCLR(n, temperature=0.3, gamma=tt.Anneal(0.5, 0.005, steps=1600))
    generator = torch.Generator().manual_seed(0)
    first = None
    for _ in range(300):
        for ids in torch.randperm(n, generator=generator).split(size):
            loss_fn(x[ids], y[ids], ids)
            loss_fn.step()
        if first is None:
            first = loss_fn.tables["x2y"].read(torch.arange(n))["log_u"].double()
    found = loss_fn.tables["x2y"].read(torch.arange(n))["log_u"].double()
    assert (first - exact).abs().mean() > 0.2
    assert (found - exact).abs().mean() < 0.03


def test_two_views_share_one_row_and_leave_out_both_views_of_an_image():
    a, b = batch(n=4)
    loss_fn = tt.SogCLR(4, temperature=0.5, gamma=1.0, directions="x2y")
    loss_fn.two_views(a, b, torch.arange(4))
    loss_fn.step()
    z = torch.cat([a, b])
    s = z @ z.T / 0.5
    for i in range(4):
        u = []
        for view, other in ((i, i + 4), (i + 4, i)):
            negatives = [j for j in range(8) if j % 4 != i]
            u.append(float(torch.exp(s[view, negatives] - s[view, other]).mean()))
        found = float(loss_fn.tables["x2y"].read(torch.tensor([i]))["log_u"].exp())
        assert found == pytest.approx(sum(u) / 2, rel=1e-5)
        assert int(loss_fn.tables["x2y"].visits[i]) == 1


def test_the_forward_pass_is_pure_and_evaluation_writes_nothing():
    x, y = batch()
    loss_fn = tt.iSogCLR(6, gamma=0.5)
    first = loss_fn(x, y, torch.arange(6))
    assert torch.equal(loss_fn(x, y, torch.arange(6)), first)
    loss_fn.step()
    before = loss_fn.tables["x2y"].values.clone()
    loss_fn.eval()(x, y, torch.arange(6))
    loss_fn.step()
    assert torch.equal(loss_fn.tables["x2y"].values, before)


def test_the_order_of_the_batch_changes_no_bit_of_the_tables():
    x, y = batch()
    ids = torch.tensor([0, 1, 1, 2, 0, 1])
    order = torch.tensor([5, 2, 0, 4, 3, 1])
    tables = []
    for rows in (torch.arange(6), order):
        loss_fn = tt.iSogCLR(3, gamma=0.5, tile="dense")
        loss_fn(x[rows], y[rows], ids[rows], same=ids[rows])
        loss_fn.step()
        tables.append(loss_fn.tables["x2y"].values)
    torch.testing.assert_close(tables[0], tables[1], rtol=1e-6, atol=0)


def test_a_resume_repeats_every_bit():
    def run(loss_fn, seeds):
        for seed in seeds:
            x, y = batch(seed=seed)
            ids = torch.randperm(20, generator=torch.Generator().manual_seed(seed))[:6]
            loss_fn(x, y, (ids, 19 - ids))
            loss_fn.step()
        return loss_fn

    def fresh():
        return tt.iSogCLR((20, 20), rho=0.5, gamma=tt.Cosine(0.2, 1.0, 20), tau_init=0.1)

    whole = run(fresh(), range(8))
    resumed = fresh()
    resumed.load_state_dict(run(fresh(), range(5)).state_dict())
    run(resumed, range(5, 8))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_each_side_has_a_table_of_its_own():
    x, y = batch(n=3)
    loss_fn = tt.iSogCLR((5, 9), tau_init=0.1, rho=0.5)
    images, texts = torch.tensor([4, 0, 1]), torch.tensor([8, 7, 0])
    loss_fn(x, y, (images, texts))
    loss_fn.step()
    tau_x, tau_y = loss_fn.tau((torch.arange(5), torch.arange(9)))
    assert (tau_x != 0.1).nonzero().flatten().tolist() == [0, 1, 4]
    assert (tau_y != 0.1).nonzero().flatten().tolist() == [0, 7, 8]


@pytest.mark.parametrize("tile", TILES)
def test_ignored_pairs_are_no_negatives(tile):
    x, y = batch(n=4)
    ignore = torch.zeros(4, 4, dtype=torch.bool)
    ignore[0, 2] = True
    loss_fn = tt.SogCLR(4, temperature=0.3, gamma=1.0, tile=tile)
    loss_fn(x, y, torch.arange(4), ignore=ignore)
    loss_fn.step()
    s = (x @ y.T / 0.3)[0]
    expected = float((torch.exp(s[[1, 3]] - s[0])).mean().log())
    assert float(loss_fn.tables["x2y"].read(torch.tensor([0]))["log_u"]) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.SogCLR(4, gamma=0.0), "gamma must stay finite and > 0"),
        (lambda: tt.SogCLR(4, gamma=1.5), r"gamma must be in \(0, 1\]"),
        (lambda: tt.iSogCLR(4, force="equalized"), "iSogCLR has no force= option"),
        (lambda: tt.SogCLR(0), "at least 1 sample, got 0"),
        (lambda: tt.SogCLR(4, temperature=0.0), "temperature must stay finite and > 0"),
        (lambda: tt.iSogCLR(4, rho=0.0), r"rho must be in \(0, inf\], got 0"),
        (lambda: tt.iSogCLR(4, beta=1.5), r"beta must be in \(0, 1\], got 1.5"),
        (lambda: tt.iSogCLR(4, tau_init=2.0), "tau_min <= tau_init <= tau_max"),
        (lambda: tt.iSogCLR(4, max_gradient=0.0), "max_gradient must be > 0 or None"),
        (lambda: tt.SogCLR(4)(*batch(n=4)), "SogCLR keeps a moving average.*pass index="),
        (lambda: tt.SogCLR(3)(*batch(n=4), torch.arange(4)), "unknown sample ids: 3"),
        (lambda: tt.SogCLR(4).two_views(*batch(n=4), torch.arange(4)), "directions='x2y'"),
        (
            lambda: tt.SogCLR(4).load_state_dict(tt.SogCLR(5).state_dict()),
            "saved for a data set of 5 samples, the table has 4",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_helper_terms_agree_with_their_definition():
    from tauten.pairwise import One, PairMask, Reduction, Tilted, reduce_tiled

    x, y = batch(n=5)
    a, c = torch.full((5, 1), 2.0, dtype=torch.float64), torch.rand(5, 1, dtype=torch.float64)
    reductions = [
        Reduction("rows", "sum", Tilted(), (a, c)),
        Reduction("cols", "sum", One(), ()),
    ]
    mask = PairMask(torch.arange(5), own=True)
    s = x @ y.T
    off = ~torch.eye(5, dtype=torch.bool)
    for reduce in (reduce_dense, reduce_tiled):
        tilted, count = reduce(x, y, reductions, mask)
        torch.testing.assert_close(tilted, (s * torch.exp(s * a - c) * off).sum(1))
        assert count.tolist() == [4.0] * 5
