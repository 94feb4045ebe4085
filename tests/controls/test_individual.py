"""Individual temperatures: the gradient by a literal loop, the updates by hand and by torch."""

import copy
import math
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.observations import Samples

N, RHO = 6, 0.7
TAU = 0.3125  # exact in float32
INDEX = torch.tensor([4, 0, 7, 2, 1, 3])
SIDES = ("x2y", "y2x")
TILES = ["dense", (4, 3)]


def batch(n=N, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = 0.6 * x + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), y.requires_grad_()


def build(num_samples=8, **options):
    settings = {"rho": RHO, "tau_init": TAU, "tau_range": (0.05, 0.9), "lr": 0.02, **options}
    return tt.Individual(num_samples, **settings).double()


LOSSES = {
    "dcl": tt.DCL,
    "dcl-equalized": lambda control, **kw: tt.DCL(control, force="equalized", **kw),
    "infonce": tt.InfoNCE,
    "infonce-reweighted": lambda control, **kw: tt.InfoNCE(control, force="reweighted", **kw),
    "sogclr": lambda control, **kw: tt.SogCLR(8, control, gamma=1.0, **kw),
}


def drive(name, control, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tt.CompositionWarning)
        return LOSSES[name](control, **options).double()


def spread(control, seed=0):
    """Temperatures that differ by sample and side."""
    generator = torch.Generator().manual_seed(seed)
    for side in SIDES:
        table = control.tables[side]
        tau = 0.2 + 0.4 * torch.rand(len(table), generator=generator, dtype=torch.float64)
        table.values[:, table.columns.index("tau")] = tau
    return control


def column(control, side, name="tau"):
    table = control.tables[side]
    return table.values[:, table.columns.index(name)].clone()


def cosines(x, y):
    return (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).detach().numpy()


def robust_gradient(s, tau, rho=RHO):
    """G_i of the anchors in the rows of s, by a loop."""
    n, out = len(s), np.zeros(len(s))
    for i in range(n):
        z = [(s[i, j] - s[i, i]) / tau[i] for j in range(n) if j != i]
        g = sum(math.exp(v) for v in z) / (n - 1)
        mean = sum(math.exp(v) / g * v for v in z) / (n - 1)
        out[i] = math.log(g) + rho - mean
    return torch.from_numpy(out)


def sides_of(x, y, index=(INDEX, INDEX)):
    s = cosines(x, y)
    return {"x2y": (s, index[0]), "y2x": (s.T, index[1])}


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", LOSSES)
def test_momentum_by_hand_with_the_gradient_of_a_literal_loop(name, tile):
    control = spread(build(beta=0.4, max_gradient=None))
    loss_fn = drive(name, control, tile=tile)
    expected = {side: column(control, side) for side in SIDES}
    momentum = {side: torch.zeros(8, dtype=torch.float64) for side in SIDES}
    for seed in range(3):
        x, y = batch(seed=seed)
        loss_fn(x, y, INDEX)
        for side, (s, ids) in sides_of(x, y).items():
            gradient = robust_gradient(s, expected[side][ids].numpy())
            momentum[side][ids] = 0.6 * momentum[side][ids] + 0.4 * gradient
            expected[side][ids] -= 0.02 * momentum[side][ids]
        loss_fn.step()
        for side in SIDES:
            assert 0.05 < float(expected[side].min()) <= float(expected[side].max()) < 0.9
            torch.testing.assert_close(column(control, side), expected[side], rtol=1e-9, atol=0)
            found = column(control, side, "momentum")
            torch.testing.assert_close(found, momentum[side], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["dcl", "dcl-equalized", "infonce", "sogclr"])
def test_the_encoder_sees_a_constant_temperature(name):
    x, y = batch()
    loss_fn = drive(name, spread(build()))
    trained = torch.autograd.grad(loss_fn(x, y, INDEX), (x, y))
    loss_fn.eval()
    torch.testing.assert_close(torch.autograd.grad(loss_fn(x, y, INDEX), (x, y)), trained)
    assert torch.autograd.gradcheck(
        lambda x, y: loss_fn(x, y, INDEX), (x, y), eps=1e-6, atol=1e-7, fast_mode=True
    )


def test_a_reweighted_infonce_has_the_gradient_of_dcl():
    x, y = batch()
    gradients = [
        torch.autograd.grad(drive(name, spread(build()))(x, y, INDEX), (x, y))
        for name in ("infonce-reweighted", "dcl")
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("decays", [(0.9, 0.999), (0.5, 0.8), (0.0, 0.9)])
def test_adam_is_that_of_torch_for_each_sample_by_its_own_visits(decays):
    """Sample k is visited in every (k + 1)-th step only."""
    control = build(adam=decays, lr=0.01, max_gradient=None)
    parameters = {
        (side, k): torch.nn.Parameter(torch.tensor(TAU, dtype=torch.float64))
        for side in SIDES
        for k in range(4)
    }
    optimizers = {
        key: torch.optim.Adam([p], lr=0.01, betas=decays, eps=1e-8) for key, p in parameters.items()
    }
    generator = torch.Generator().manual_seed(0)
    for step in range(12):
        ids = torch.tensor([k for k in range(4) if step % (k + 1) == 0])
        for side in SIDES:
            gradient = torch.randn(len(ids), generator=generator, dtype=torch.float64)
            control.observe(side, Samples(ids), gradient)
            for k, g in zip(ids.tolist(), gradient, strict=True):
                parameters[side, k].grad = g.clone()
                optimizers[side, k].step()
        control.step()
        for side in SIDES:
            expected = torch.stack([parameters[side, k].detach() for k in range(4)])
            torch.testing.assert_close(column(control, side)[:4], expected, rtol=1e-9, atol=1e-12)
    assert column(control, "x2y", "updates").tolist() == [12, 6, 4, 3, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["dcl", "infonce"])
def test_the_first_step_of_adam_is_the_learning_rate_against_the_sign_of_the_gradient(name):
    x, y = batch()
    control = spread(build(adam=(0.9, 0.999), lr=0.01))
    before = {side: column(control, side) for side in SIDES}
    loss_fn = drive(name, control)
    loss_fn(x, y, INDEX)
    loss_fn.step()
    for side, (s, ids) in sides_of(x, y).items():
        gradient = robust_gradient(s, before[side][ids].numpy())
        expected = before[side][ids] - 0.01 * gradient.sign()
        torch.testing.assert_close(column(control, side)[ids], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("bound", [5.0, 0.3])
def test_the_gradient_is_clipped(bound):
    control = build(beta=1.0, lr=1e-3, max_gradient=bound)
    control.observe("x2y", Samples(torch.arange(4)), torch.tensor([-9.0, -0.2, 0.1, 7.0]))
    control.step()
    clipped = torch.tensor([-bound, -0.2, 0.1, bound], dtype=torch.float64)
    torch.testing.assert_close(column(control, "x2y", "momentum")[:4], clipped, rtol=1e-6, atol=0)
    torch.testing.assert_close(column(control, "x2y")[:4], TAU - 1e-3 * clipped)


@pytest.mark.parametrize("adam", [None, (0.9, 0.999)])
def test_temperatures_keep_to_their_range_and_leave_its_ends(adam):
    control = build(adam=adam, lr=0.5, beta=1.0)
    ids = torch.arange(2)
    for _ in range(3):
        control.observe("x2y", Samples(ids), torch.tensor([9.0, -9.0]))
        control.step()
        assert float(column(control, "x2y").min()) >= 0.05
        assert float(column(control, "x2y").max()) <= 0.9
    assert column(control, "x2y")[:2].tolist() == pytest.approx([0.05, 0.9])
    for _ in range(30):
        control.observe("x2y", Samples(ids), torch.tensor([-0.1, 0.1]))
        control.step()
    assert float(column(control, "x2y")[0]) > 0.05
    assert float(column(control, "x2y")[1]) < 0.9


@pytest.mark.parametrize("name", ["dcl", "infonce"])
def test_repeated_ids_of_a_batch_count_once_with_their_mean(name):
    x, y = batch()
    ids = torch.tensor([3, 3, 1, 3, 1, 6])
    control = build(beta=1.0, max_gradient=None)
    loss_fn = drive(name, control)
    loss_fn(x, y, ids)
    loss_fn.step()
    for side, (s, _) in sides_of(x, y).items():
        gradient = robust_gradient(s, [TAU] * N)
        for k in (1, 3, 6):
            mean = float(gradient[ids == k].mean())
            assert float(column(control, side)[k]) == pytest.approx(TAU - 0.02 * mean, abs=1e-9)
        assert control.tables[side].visits.tolist() == [0, 1, 0, 1, 0, 0, 1, 0]


def test_passes_between_two_steps_are_averaged():
    first, second = batch(seed=1), batch(seed=2)
    control = build(beta=1.0, max_gradient=None)
    loss_fn = tt.DCL(control).double()
    for x, y in (first, second):
        loss_fn(x, y, INDEX)
    loss_fn.step()
    for side in SIDES:
        gradients = [robust_gradient(sides_of(*b)[side][0], [TAU] * N) for b in (first, second)]
        expected = TAU - 0.02 * torch.stack(gradients).mean(0)
        torch.testing.assert_close(column(control, side)[INDEX], expected, rtol=1e-9, atol=0)


def test_one_direction_teaches_one_side():
    x, y = batch()
    for directions, taught in (("x2y", "x2y"), ("y2x", "y2x")):
        control = build()
        loss_fn = tt.DCL(control, directions=directions).double()
        loss_fn(x, y, INDEX)
        loss_fn.step()
        for side in SIDES:
            moved = bool((column(control, side) != TAU).any())
            assert moved == (side == taught)


def test_anchors_without_a_negative_teach_nothing():
    x, y = batch()
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[2] = True
    ignore[2, 2] = False
    control = build()
    loss_fn = tt.DCL(control).double()
    loss_fn(x, y, INDEX, ignore=ignore)
    loss_fn.step()
    assert control.tables["x2y"].visits[INDEX].tolist() == [1, 1, 0, 1, 1, 1]
    assert control.tables["y2x"].visits[INDEX].tolist() == [1] * N


def snapshot(loss_fn):
    return copy.deepcopy(loss_fn.state_dict())


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", LOSSES)
def test_the_forward_pass_is_pure(name):
    x, y = batch()
    loss_fn = drive(name, spread(build()))
    before = snapshot(loss_fn)
    values = [float(loss_fn(x, y, INDEX).detach()) for _ in range(3)]
    assert values[0] == values[1] == values[2]
    assert same(before, snapshot(loss_fn))


@pytest.mark.parametrize("name", LOSSES)
def test_evaluation_observes_nothing(name):
    x, y = batch()
    loss_fn = drive(name, spread(build()))
    before = {side: column(loss_fn.strength, side) for side in SIDES}
    loss_fn.eval()
    loss_fn(x, y, INDEX)
    loss_fn.train()
    with torch.no_grad():
        loss_fn(x, y, INDEX)
    loss_fn.step()
    for side in SIDES:
        assert torch.equal(column(loss_fn.strength, side), before[side])
        assert int(loss_fn.strength.tables[side].visits.sum()) == 0


@pytest.mark.parametrize("adam", [None, (0.9, 0.999)])
@pytest.mark.parametrize("tile", TILES)
def test_sides_have_ids_and_tables_of_their_own(tile, adam):
    x, y = batch()
    ids = (torch.tensor([2, 0, 1, 2, 1, 0]), torch.tensor([9, 3, 4, 0, 7, 5]))
    control = build((3, 10), beta=1.0, adam=adam, max_gradient=None)
    loss_fn = tt.DCL(control, tile=tile).double()
    loss_fn(x, y, ids)
    loss_fn.step()
    assert [len(control.tables[side]) for side in SIDES] == [3, 10]
    for side, (s, mine) in sides_of(x, y, ids).items():
        gradient = robust_gradient(s, [TAU] * N)
        for k in mine.unique().tolist():
            mean = float(gradient[mine == k].mean())
            step = mean if adam is None else math.copysign(1.0, mean)
            found = float(column(control, side)[k])
            assert found == pytest.approx(TAU - 0.02 * step, abs=1e-7)
    own_x, own_y = loss_fn.tau((torch.arange(3), torch.arange(10)))
    assert torch.equal(own_x, column(control, "x2y"))
    assert torch.equal(own_y, column(control, "y2x"))
    assert torch.equal(control.at(torch.tensor([2, 0])), own_x[torch.tensor([2, 0])])
    with pytest.raises(ValueError, match=r"1 unknown sample ids: 9; the table has 3"):
        loss_fn(x, y, (torch.tensor([2, 0, 9, 2, 1, 0]), ids[1]))


def test_a_growing_table_ends_as_one_sized_up_front():
    ids = torch.tensor([40, 3, 17, 90, 5, 62])
    losses = [tt.DCL(build(size)).double() for size in (None, 100)]
    assert losses[0].tau(ids).tolist() == [TAU] * N
    for loss_fn in losses:
        for seed, index in ((0, ids), (1, torch.arange(N)), (2, ids + 1)):
            loss_fn(*batch(seed=seed), index)
            loss_fn.step()
    everyone = torch.arange(100)
    for a, b in zip(*(loss_fn.tau((everyone, everyone)) for loss_fn in losses), strict=True):
        assert torch.equal(a, b)
    assert len(losses[0].strength.tables["x2y"]) >= 92
    fresh = tt.DCL(build(None)).double()
    fresh.load_state_dict(losses[0].state_dict())
    assert torch.equal(fresh.tau(everyone), losses[0].tau(everyone))


@pytest.mark.parametrize("adam", [None, (0.9, 0.999)])
@pytest.mark.parametrize("name", LOSSES)
def test_a_resumed_run_continues_with_the_same_bits(name, adam):
    def run(loss_fn, seeds):
        for seed in seeds:
            loss_fn(*batch(seed=seed), (INDEX + seed) % 8)
            loss_fn.step()

    whole = drive(name, build(adam=adam))
    run(whole, range(6))
    first, second = drive(name, build(adam=adam)), drive(name, build(adam=adam))
    run(first, range(3))
    second.load_state_dict(snapshot(first))
    run(second, range(3, 6))
    assert same(whole.state_dict(), second.state_dict())
    assert second.strength.steps == 6


def test_state_of_another_data_set_is_refused():
    saved = build(8).state_dict()
    with pytest.raises(ValueError, match=r"data set of 8 samples, the table has 9"):
        build(9).load_state_dict(saved)
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(8, adam=(0.9, 0.99)).load_state_dict(saved)


def test_ids_are_required_and_checked():
    x, y = batch()
    loss_fn = tt.DCL(build()).double()
    with pytest.raises(ValueError, match=r"DCL's temperature is per sample.*pass index="):
        loss_fn(x, y)
    for index in ((INDEX + 2, INDEX), (INDEX, INDEX + 2)):
        with pytest.raises(ValueError, match=r"1 unknown sample ids: 9; the table has 8 samples"):
            loss_fn(x, y, index)
    with pytest.raises(ValueError, match=r"2 unknown sample ids: -1, 8"):
        loss_fn.tau(torch.tensor([8, -1, 0]))


COMPOSE = {
    "sum": lambda c: c + 0.1,
    "sum of schedules": lambda c: tt.Cosine(-0.01, 0.01, 10) + c,
    "difference": lambda c: 1.0 - c,
    "multiple": lambda c: 2 * c,
    "quotient": lambda c: c / 3,
    "reciprocal": lambda c: 1 / c,
    "negative": lambda c: -c,
    "clamp": lambda c: c.clamp(0.1, 0.5),
}


@pytest.mark.parametrize("how", COMPOSE)
def test_individual_is_no_part_of_another_control(how):
    with pytest.raises(ValueError, match=r"Individual\(.*updates each τ by itself.*no part of"):
        COMPOSE[how](build())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "at least 1 sample, got 0"),
        ({"tau_init": 0.01}, "0 < tau_min <= tau_init <= tau_max, got 0.05, 0.01, 0.9"),
        ({"tau_range": (0.0, 0.9)}, "0 < tau_min <= tau_init <= tau_max, got 0.0, 0.3125, 0.9"),
        ({"tau_range": (0.9, 0.1)}, "0 < tau_min <= tau_init <= tau_max, got 0.9, 0.3125, 0.1"),
        ({"tau_range": (0.1, math.inf)}, "tau_range must be a finite number, got inf"),
        ({"tau_init": math.nan}, "tau_init must be a finite number, got nan"),
        ({"rho": 0.0}, r"rho must be in \(0, inf\], got 0.0"),
        ({"rho": math.inf}, "rho must be a finite number, got inf"),
        ({"lr": 0.0}, r"lr must be in \(0, inf\], got 0.0"),
        ({"beta": 1.5}, r"beta must be in \(0, 1\], got 1.5"),
        ({"beta": 0.0}, r"beta must be in \(0, 1\], got 0.0"),
        ({"max_gradient": 0.0}, "max_gradient must be > 0 or None, got 0.0"),
        ({"max_gradient": math.nan}, "max_gradient must be a finite number, got nan"),
        ({"adam": (0.9, 1.0)}, r"adam must be two decays in \[0, 1\), got \(0.9, 1.0\)"),
        ({"adam": (-0.1, 0.9)}, r"adam must be two decays in \[0, 1\)"),
        ({"adam": (0.9,)}, r"adam must be two numbers, got \(0.9,\)"),
        ({"adam": (0.9, 0.99, 0.999)}, "adam must be two numbers"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
