"""DySTreSS, TeMo and MACL: hand-checked vectors and literal loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.pairwise import PairNumber

TILES = ["dense", 2, (5, 3), (4, 16)]
N = 11


class Frozen(tt.Control):
    """Temperatures of pairs, (N, M), that depend on nothing."""

    granularity = "pair"

    def __init__(self, matrix):
        super().__init__()
        self.matrix = matrix

    def on(self, anchors):
        cols = torch.arange(self.matrix.shape[1]).unsqueeze(0)
        return PairNumber(_look_up, (self.matrix.unsqueeze(1), cols))

    def range(self):
        return float(self.matrix.min()), float(self.matrix.max())


def _look_up(s, rows, cols):
    if rows.dim() == 3:
        return rows[:, 0].gather(1, cols.expand(len(rows), -1))
    return rows.gather(1, cols.unsqueeze(1)).squeeze(1)


def batch(n=N, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = 0.6 * x + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), y.requires_grad_()


def with_cosines(cosines):
    """x and y whose pair i has the cosine cosines[i]."""
    n = len(cosines)
    x = torch.eye(2 * n, dtype=torch.float64)[:n]
    c = torch.tensor(cosines, dtype=torch.float64).unsqueeze(1)
    return x, c * x + (1 - c.square()).clamp(min=0).sqrt() * x.roll(n, 1)


def cosines(x, y):
    return (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).detach().numpy()


def infonce(s, tau):
    """Mean symmetric InfoNCE in which pair (i, j) has the temperature tau[i, j]."""
    n, total = len(s), 0.0
    for i in range(n):
        row = sum(math.exp(s[i, j] / tau[i, j]) for j in range(n))
        col = sum(math.exp(s[j, i] / tau[j, i]) for j in range(n))
        positive = math.exp(s[i, i] / tau[i, i])
        total -= 0.5 * (math.log(positive / row) + math.log(positive / col))
    return total / n


def dystress(s, low=0.1, high=0.2, peak=1.0, width=1.0):
    """The published rules: base, and shifted by an offset and a scale."""
    out = np.zeros_like(s)
    for at, value in np.ndenumerate(s):
        if peak == width == 1.0:
            out[at] = low + (high - low) / 2 * (1 + math.cos(math.pi * (1 + value)))
        elif value > peak:
            out[at] = high
        else:
            out[at] = low + (high - low) / 2 * (1 + math.cos(math.pi * (value - peak) / width))
    return out


def temo(s, low=0.01, alpha=0.02):
    out = np.zeros_like(s)
    for at, value in np.ndenumerate(s):
        out[at] = low + alpha * math.sqrt((value + 1) / 2)
    return out


SHIFTED = {"peak": 0.4, "width": 0.7}
PAIRS = {
    "dystress": (lambda: tt.DySTreSS(0.1, 0.2), lambda s: dystress(s)),
    "dystress-shifted": (
        lambda: tt.DySTreSS(0.1, 0.2, peak=0.4, width=0.7),
        lambda s: dystress(s, **SHIFTED),
    ),
    "temo": (lambda: tt.TeMo(0.05, 0.4), lambda s: temo(s, 0.05, 0.35)),
    "temo-detached": (lambda: tt.TeMo(0.05, 0.4, detach=True), lambda s: temo(s, 0.05, 0.35)),
}


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    ("options", "at", "expected"),
    [
        ({}, [-1.0, -0.5, 0.0, 0.5, 1.0], [0.2, 0.15, 0.1, 0.15, 0.2]),
        (SHIFTED, [-0.3, 0.0, 0.4, 0.7], [0.1, 0.138874, 0.2, 0.2]),
    ],
)
def test_t8_dystress_has_the_hand_checked_temperatures(options, at, expected, tile):
    loss_fn = tt.InfoNCE(tt.DySTreSS(0.1, 0.2, **options), tile=tile)
    x, y = with_cosines(at)
    expected = torch.tensor(expected, dtype=torch.float64)
    for direction in ("x2y", "y2x"):
        number = loss_fn.batch(x, y).strength(loss_fn.strength, direction)
        found = number.rule(torch.tensor(at, dtype=torch.float64), *number.numbers)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    loss_fn(x, y)
    torch.testing.assert_close(loss_fn.last_tau[1], expected, atol=1e-6, rtol=0)
    assert torch.equal(loss_fn.last_tau[0], torch.arange(len(at)))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", PAIRS)
def test_the_loss_is_the_literal_loop(name, tile):
    make, rule = PAIRS[name]
    x, y = batch()
    s = cosines(x, y)
    found = tt.InfoNCE(make(), tile=tile)(x, y)
    assert float(found.detach()) == pytest.approx(infonce(s, rule(s)), abs=1e-10)


@pytest.mark.parametrize("name", PAIRS)
def test_tiles_have_the_gradient_of_the_whole_matrix(name):
    make, _ = PAIRS[name]
    x, y = batch()
    expected = torch.autograd.grad(tt.InfoNCE(make(), tile="dense")(x, y), (x, y))
    for tile in TILES[1:]:
        found = torch.autograd.grad(tt.InfoNCE(make(), tile=tile)(x, y), (x, y))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", ["dystress", "dystress-shifted", "temo-detached"])
def test_a_detached_rule_is_a_constant_to_the_gradient(name, tile):
    make, rule = PAIRS[name]
    x, y = batch()
    constant = Frozen(torch.from_numpy(rule(cosines(x, y))))
    expected = torch.autograd.grad(tt.InfoNCE(constant, tile=tile)(x, y), (x, y))
    found = torch.autograd.grad(tt.InfoNCE(make(), tile=tile)(x, y), (x, y))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
def test_temo_passes_the_gradient_through_its_rule(tile):
    x, y = batch(5)
    loss_fn = tt.InfoNCE(tt.TeMo(0.1, 0.4), tile=tile)
    assert torch.autograd.gradcheck(loss_fn, (x, y), eps=1e-6, atol=1e-7, fast_mode=True)
    plain = torch.autograd.grad(tt.InfoNCE(tt.TeMo(0.1, 0.4, detach=True))(x, y), x)[0]
    through = torch.autograd.grad(loss_fn(x, y), x)[0]
    assert float((plain - through).abs().max()) > 1e-3


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_temo_stays_finite_at_opposite_and_equal_vectors(sign):
    x = F.normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    x.requires_grad_()
    loss_fn = tt.InfoNCE(tt.TeMo(0.01, 0.05))
    loss_fn(x, sign * x.detach()).backward()
    assert bool(x.grad.isfinite().all())
    low, high = loss_fn.strength.range()
    tau = loss_fn.last_tau[1]
    assert low <= float(tau.min()) <= float(tau.max()) <= high
    assert float(tau.mean()) == pytest.approx(high if sign > 0 else low, abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        (0.1, 0.2, 1.0, 1.0),
        (0.07, 0.2, 1.0, 1.0),
        (0.1, 1.0, 1.0, 1.0),
        (0.05, 0.5, 1.0, 1.0),
        (0.1, 0.2, 0.4, 0.7),
        (0.1, 0.2, 0.2, 0.8),
        (0.02, 0.5, 0.4, 0.7),
        (0.1, 0.1, 1.0, 1.0),
    ],
)
def test_dystress_refuses_exactly_the_settings_whose_logit_falls(settings):
    s = np.linspace(0, 1, 4001)
    rises = bool((np.diff(s / dystress(s, *settings)) > 0).all())
    if rises:
        assert tt.DySTreSS(*settings).range() == settings[:2]
    else:
        with pytest.raises(ValueError, match=r"must rise on \[0, 1\].*bring low and high closer"):
            tt.DySTreSS(*settings)


@pytest.mark.parametrize("tile", TILES)
def test_t9_macl_follows_the_alignment(tile):
    x, y = with_cosines([0.8, 0.6, 0.7])
    loss_fn = tt.InfoNCE(tt.MACL(0.1, 0.5, 0.0), tile=tile)
    loss_fn(x, y, torch.tensor([7, 3, 9]))
    ids, tau = loss_fn.last_tau
    assert ids.tolist() == [7, 3, 9]
    assert tau.tolist() == pytest.approx([0.135] * 3, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_t9_reweighted_value_of_four_equal_logits(tile):
    """P = 1/4 for every anchor: V = 4/3 and the loss is 4/3 · log 4."""
    same = torch.ones(4, 3, dtype=torch.float64)
    loss_fn = tt.InfoNCE(tt.MACL(), force="reweighted", tile=tile)
    assert float(loss_fn(same, same)) == pytest.approx(1.8483925, abs=1e-6)
    assert float(tt.InfoNCE(tt.MACL(), tile=tile)(same, same)) == pytest.approx(math.log(4))


def macl(s, init=0.1, alpha=0.5, threshold=0.0):
    """The published method: (mean loss, τ, V for each row, V for each column)."""
    n = len(s)
    tau = init * (1 + alpha * (np.mean([s[i, i] for i in range(n)]) - threshold))
    weights, total = np.zeros((2, n)), 0.0
    for i in range(n):
        for way, line in enumerate((s[i], s[:, i])):
            p = math.exp(s[i, i] / tau) / sum(math.exp(value / tau) for value in line)
            weights[way, i] = 1 / (1 - p)
            total -= 0.5 * weights[way, i] * math.log(p)
    return total / n, tau, weights


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("settings", [(0.1, 0.5, 0.0), (0.3, 0.6, 0.4), (0.2, 0.0, 1.0)])
def test_macl_with_reweighted_force_is_the_whole_method(settings, tile):
    x, y = batch()
    loss, tau, weights = macl(cosines(x, y), *settings)
    loss_fn = tt.InfoNCE(tt.MACL(*settings), force="reweighted", tile=tile)
    found = loss_fn(x, y)
    assert float(found.detach()) == pytest.approx(loss, abs=1e-9)
    assert loss_fn.last_tau[1].tolist() == pytest.approx([tau] * N, abs=1e-12)

    logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / tau
    own = logits.diagonal()
    rows = torch.from_numpy(weights[0]) * (logits.logsumexp(1) - own)
    cols = torch.from_numpy(weights[1]) * (logits.logsumexp(0) - own)
    expected = torch.autograd.grad((rows + cols).mean() / 2, (x, y))
    torch.testing.assert_close(torch.autograd.grad(found, (x, y)), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("make", [tt.InfoNCE, tt.DCL, tt.SigLIP, tt.MaxMargin])
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
def test_macl_is_a_constant_to_the_gradient(make, directions, tile):
    x, y = batch()
    tau = macl(cosines(x, y), 0.3, 0.5, 0.2)[1]
    options = {"directions": directions, "tile": tile}
    constant = make(tau, **options)(x, y)
    moving = make(tt.MACL(0.3, 0.5, 0.2), **options)(x, y)
    torch.testing.assert_close(moving, constant, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(
        torch.autograd.grad(moving, (x, y)),
        torch.autograd.grad(constant, (x, y)),
        rtol=1e-5,
        atol=1e-7,
    )


def test_macl_follows_the_positives_that_the_loss_was_given():
    x, y = with_cosines([0.8, 0.6, 0.7, -0.2])
    order = torch.tensor([2, 0, 3, 1])
    loss_fn = tt.InfoNCE(tt.MACL(0.1, 0.5, 0.0))
    loss_fn(x, y[order], positives=torch.argsort(order))
    assert loss_fn.last_tau[1].tolist() == pytest.approx([0.1 * (1 + 0.5 * 0.475)] * 4)


def test_ranges_contain_every_temperature():
    grid = torch.linspace(-1, 1, 401, dtype=torch.float64)
    for control in (tt.DySTreSS(0.1, 0.2), tt.DySTreSS(0.1, 0.2, 0.4, 0.7), tt.TeMo(0.02, 0.3)):
        loss_fn = tt.InfoNCE(control)
        x, y = with_cosines(grid.tolist())
        loss_fn(x, y)
        low, high = control.range()
        tau = loss_fn.last_tau[1]
        assert float(tau.min()) == pytest.approx(low, abs=5e-4)
        assert float(tau.max()) == pytest.approx(high, abs=1e-6)
        assert low - 1e-12 <= float(tau.min()) <= float(tau.max()) <= high + 1e-12
    control = tt.MACL(0.1, 0.5, 0.2)
    assert control.range() == pytest.approx((0.04, 0.14))
    for sign, end in ((-1.0, 0), (1.0, 1)):
        loss_fn = tt.InfoNCE(control)
        x = torch.eye(3, dtype=torch.float64)
        loss_fn(x, sign * x)
        assert float(loss_fn.last_tau[1][0]) == pytest.approx(control.range()[end])


def test_in_a_sum_the_rule_keeps_its_pairs():
    x, y = batch()
    s = cosines(x, y)
    control = tt.DySTreSS(0.1, 0.2) + tt.Cosine(-0.02, 0.02, period=8)
    loss_fn = tt.InfoNCE(control, tile=(4, 3))
    for step in range(3):
        shift = 0.02 * math.cos(2 * math.pi * step / 8)
        found = float(loss_fn(x, y).detach())
        assert found == pytest.approx(infonce(s, dystress(s) + shift), abs=1e-7)
        loss_fn.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.DySTreSS(0.3, 0.2), "0 < low <= high, got low=0.3, high=0.2"),
        (lambda: tt.DySTreSS(0.0, 0.2), "0 < low <= high, got low=0.0"),
        (lambda: tt.DySTreSS(0.1, 0.2, width=0.0), "width must be > 0, got 0.0"),
        (lambda: tt.DySTreSS(0.1, 0.2, peak=math.nan), "peak must be a finite number, got nan"),
        (lambda: tt.DySTreSS(0.1, math.inf), "high must be a finite number, got inf"),
        (lambda: tt.TeMo(0.3, 0.2), "0 < low <= high, got low=0.3, high=0.2"),
        (lambda: tt.TeMo(-0.1, 0.2), "0 < low <= high, got low=-0.1"),
        (lambda: tt.TeMo(0.1, math.nan), "high must be a finite number, got nan"),
        (lambda: tt.MACL(0.0), "init > 0, slope >= 0 and threshold in \\[-1, 1\\], got 0.0"),
        (lambda: tt.MACL(0.1, -0.5), "slope >= 0"),
        (lambda: tt.MACL(0.1, 0.5, 1.5), "threshold in \\[-1, 1\\]"),
        (lambda: tt.MACL(0.1, 1.0, 0.5), "reach -0.05 at alignment -1.*must be <= 1, got 1.5"),
        (lambda: tt.MACL(0.1, 2.0), "reach -0.1 at alignment -1.*must be <= 1, got 2"),
        (lambda: tt.MACL(math.inf), "init must be a finite number, got inf"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "control", [tt.DySTreSS(), tt.TeMo(), tt.MACL(), 2 * tt.MACL(), tt.TeMo() + 0.1]
)
def test_ids_alone_have_no_value(control):
    index = torch.arange(3)
    for ask in (control.at, tt.InfoNCE(control).tau, lambda i: control.mean(i, 2)):
        with pytest.raises(ValueError, match=r"follows from the batch.*read loss_fn\.last_tau"):
            ask(index)


def test_macl_takes_the_whole_range_of_its_slope():
    """α = 1 at A_0 = 0: τ is 0 where all pairs are opposite, and only there."""
    x = torch.eye(4, dtype=torch.float64)
    loss_fn = tt.InfoNCE(tt.MACL(0.1, 1.0, 0.0))
    assert 0 < loss_fn.strength.range()[0] < 1e-6
    loss_fn(x, 0.6 * x + 0.8 * x.roll(1, 1))
    assert loss_fn.last_tau[1].tolist() == pytest.approx([0.16] * 4)
    assert bool(loss_fn(x, -x).isfinite())
