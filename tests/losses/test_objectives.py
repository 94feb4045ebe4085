"""Z-loss, Mann-Whitney and CACR against loops over their formulas in float64."""

import math

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from related import INDEX, LABELS, TILES, D, N, check, drawn_pair, relations, sides

TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243], 0.1, 0.5)
WIDE = tt.ClusterShift([1, 3, 9, 27, 81, 243], 0.5, 2.0)
MARGIN = tt.ClusterShift([1, 3, 9, 27, 81, 243], -0.1, 0.3)


@pytest.fixture
def pair():
    return drawn_pair()


every_relation = pytest.mark.parametrize("relation", relations(), ids=" ".join)
every_tile = pytest.mark.parametrize("tile", TILES)


def of_both(pair, relation, of_anchor):
    parts = [
        torch.stack([of_anchor(i, s, positive[i], kept[i]) for i in range(N)])
        for s, positive, kept in sides(pair, relation)
    ]
    return sum(parts) / 2


@every_tile
@every_relation
def test_z_loss_equals_the_formula(pair, relation, tile):
    b, a = WIDE.double().at(INDEX).double(), 0.7

    def of_anchor(i, s, positive, kept):
        scores = s[i][kept]
        z = (s[i][positive] - scores.mean()) / scores.std(unbiased=False)
        return ((1 + (a * (b[i] - z)).exp()).log() / a).mean()

    found = tt.ZLoss(WIDE, a, reduction="none", tile=tile).double()(*pair, INDEX, **relation)
    check(found, of_both(pair, relation, of_anchor), pair)


def test_z_loss_does_not_see_shifts_and_scales():
    generator = torch.Generator().manual_seed(1)
    s, shift = torch.randn(N, N, generator=generator).double(), torch.linspace(-3, 3, N).double()
    loss_fn = tt.ZLoss(1.5, directions="x2y", normalize=False, reduction="none").double()
    one = torch.eye(N, dtype=torch.float64)
    moved = 4 * s * shift.exp()[:, None] + shift[:, None]
    torch.testing.assert_close(loss_fn(s, one), loss_fn(moved, one))


@every_tile
@pytest.mark.parametrize("relation", [{}, relations()[2]], ids=" ".join)
def test_mann_whitney_equals_the_formula(pair, relation, tile):
    tau, margin = TAU.double().at(INDEX).double(), MARGIN.double().at(INDEX).double()

    def of_anchor(i, s, positive, kept):
        out = relation.get("ignore", torch.zeros(N, N, dtype=torch.bool))
        straight = s if torch.equal(s, sides(pair, relation)[0][0]) else s.T
        negatives = [straight[k, j] for k in range(N) for j in range(N) if k != j and not out[k, j]]
        gaps = (torch.stack(negatives) - s[i, i] + margin[i]) / tau[i]
        return (1 + gaps.exp()).log().mean()

    loss_fn = tt.MannWhitney(TAU, margin=MARGIN, reduction="none", tile=tile).double()
    check(loss_fn(*pair, INDEX, **relation), of_both(pair, relation, of_anchor), pair)


def test_mann_whitney_bounds_the_area_over_the_curve_and_compares_anchors(pair):
    s = torch.randn(N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one, off = torch.eye(N, dtype=torch.float64), ~torch.eye(N, dtype=torch.bool)
    over = (s[off][None] >= s.diagonal()[:, None]).double().mean()
    for tau in (0.1, 1.0):
        loss = tt.MannWhitney(tau, normalize=False).double()(s, one)
        assert float(over) <= float(loss) / math.log(2)
    shifted = s + torch.linspace(0, 5, N).double()[:, None]
    assert float(tt.MannWhitney(1.0, normalize=False)(shifted, one)) > float(loss) + 0.1
    ring = tt.InfoNCE(1.0, normalize=False, directions="x2y")
    torch.testing.assert_close(ring(shifted, one), ring(s, one))


def test_mann_whitney_learns_a_temperature_of_both_directions(pair):
    tau = tt.Learnable(0.3, 0.1, 1.0)
    loss = tt.MannWhitney(tau).double()(*pair)
    (found,) = torch.autograd.grad(loss, tau.parameter)
    step, ends = 1e-4, []
    for sign in (1, -1):
        value = 0.3 * math.exp(sign * step)
        ends.append(float(tt.MannWhitney(value).double()(*pair).detach()))
    assert float(found) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4)


@every_tile
@every_relation
def test_cacr_equals_the_formula(pair, relation, tile):
    tau, plus = WIDE.double().at(INDEX).double(), 0.6

    def of_anchor(i, s, positive, kept):
        d = 2 - 2 * s[i]
        near, far = d[positive], d[kept & ~positive]
        attracted = ((near / plus).softmax(0) * near).sum()
        return 1.5 * attracted - 0.5 * ((-far / tau[i]).softmax(0) * far).sum()

    loss_fn = tt.CACR(WIDE, plus, attraction=1.5, repulsion=0.5, reduction="none", tile=tile)
    found = loss_fn.double()(*pair, INDEX, **relation)
    check(found, of_both(pair, relation, of_anchor), pair)


@every_tile
def test_cacr_keeps_its_gradient_where_positives_coincide_at_a_low_temperature(tile):
    x = torch.randn(8, D, generator=torch.Generator().manual_seed(1)).requires_grad_()
    loss = tt.CACR(0.001, tile=tile)(x, x.detach().clone())
    loss.backward()
    exact = tt.CACR(0.001).double()(x.detach().double(), x.detach().double())
    torch.testing.assert_close(loss.detach().double(), exact, rtol=1e-3, atol=1e-3)
    assert bool(x.grad.isfinite().all())


def test_cacr_takes_temperatures_of_pairs(pair):
    """Their order of distances counts: (2 − 2s)/τ_ij, not s/τ_ij."""
    metadata = torch.randn(N, 3, generator=torch.Generator().manual_seed(2))
    tau = tt.PairDistance(metadata, 0.5)
    x, y = (F.normalize(side, dim=1) for side in pair)
    s = x @ y.T
    batch = tt.InfoNCE(tau).double().batch(*pair, INDEX)
    values = batch.strength(tau, "x2y")
    matrix = values.rule(s, *values.numbers)
    off = ~torch.eye(N, dtype=torch.bool)
    d = 2 - 2 * s
    weights = (-d / matrix).masked_fill(~off, -torch.inf).softmax(1)
    expected = (d.diagonal() - (weights * d.masked_fill(~off, 0.0)).sum(1)).mean()
    found = tt.CACR(tau, directions="x2y").double()(*pair, INDEX)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@every_tile
@every_relation
def test_siglip_with_a_relative_bias_equals_the_formula(pair, relation, tile):
    tau, threshold = TAU.double().at(INDEX).double(), MARGIN.double().at(INDEX).double()

    def of_anchor(i, s, positive, kept):
        logits = (s[i] - threshold[i]) / tau[i]
        return torch.stack(
            [F.softplus(-z if p else z) for z, p in zip(logits[kept], positive[kept], strict=True)]
        ).sum()

    loss_fn = tt.RelativeSigLIP(TAU, MARGIN, reduction="none", tile=tile).double()
    check(loss_fn(*pair, INDEX, **relation), of_both(pair, relation, of_anchor), pair)


def test_the_threshold_of_a_relative_bias_is_where_tau_leaves_it(pair):
    """With one τ it is SigLIP of b = −r/τ; a pair at the threshold has log 2 at any τ."""
    found = tt.RelativeSigLIP(0.2, 0.3).double()(*pair)
    torch.testing.assert_close(found, tt.SigLIP(0.2, -0.3 / 0.2).double()(*pair))
    at = torch.full((2, 2), 0.4).double()
    one = torch.eye(2).double()
    for tau in (0.01, 1.0):
        loss = tt.RelativeSigLIP(tau, 0.4, normalize=False).double()(at, one)
        assert float(loss) == pytest.approx(2 * math.log(2))


def tuples(count):
    generator = torch.Generator().manual_seed(3)
    base, *noise = torch.randn(count + 1, N, D, generator=generator, dtype=torch.float64)
    return [(base + part).requires_grad_() for part in noise]


@pytest.mark.parametrize("count", [3, 4])
def test_gram_equals_the_formula(count):
    views, tau = tuples(count), TAU.double().at(INDEX).double()
    units = [F.normalize(view, dim=1) for view in views]
    s = torch.empty(N, N, dtype=torch.float64)
    rows = []
    for i in range(N):
        volumes = []
        for j in range(N):
            matrix = torch.stack([units[0][i], *(unit[j] for unit in units[1:])])
            volumes.append((torch.linalg.det(matrix @ matrix.T) + 1e-6).sqrt())
        rows.append(-torch.stack(volumes))
    s = torch.stack(rows)
    if count == 3:
        a, b, c = (units[0] @ units[1].T), (units[0] @ units[2].T), (units[1] * units[2]).sum(1)
        closed = -(1 - a**2 - b**2 - c**2 + 2 * a * b * c + 1e-6).sqrt()
        torch.testing.assert_close(s, closed)
    own = torch.arange(N)
    each = [
        F.cross_entropy(m / tau[:, None], own, label_smoothing=0.1, reduction="none")
        for m in (s, s.T)
    ]
    expected = (each[0] + each[1]) / 2
    found = tt.GRAM(TAU, label_smoothing=0.1, reduction="none").double()(views, INDEX)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    ours = torch.autograd.grad(found @ weight, views)
    theirs = torch.autograd.grad(expected @ weight, views)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


def test_gram_learns_a_temperature_and_leaves_duplicates_out():
    control, views = tt.Learnable(0.2, 0.01, 1.0), tuples(3)
    tt.GRAM(control)(views).backward()
    assert float(control.parameter.grad.abs()) > 0
    plain, fewer = (
        float(tt.GRAM(0.2)(views, same=ids).detach()) for ids in ((), torch.zeros(N).long())
    )
    assert fewer < 1e-6 < plain


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.ZLoss(tt.Learnable(0.1, 0.01, 1.0)), "only shrinks"),
        (lambda: tt.ZLoss(tt.DySTreSS()), "one mean and one deviation"),
        (lambda: tt.ZLoss(1.0, 0.0), "sharpness must be > 0"),
        (lambda: tt.MannWhitney(tt.DySTreSS()), "of two pairs"),
        (lambda: tt.MannWhitney(tt.Individual(9, rho=1.0)), "no partition"),
        (
            lambda: tt.MannWhitney(0.1)(torch.randn(4, 3), torch.randn(4, 3), labels=LABELS[:4]),
            "pass labels as same=",
        ),
        (lambda: tt.CACR(tt.Learnable(0.1, 0.01, 1.0)), "only loses its effect"),
        (lambda: tt.CACR(1.0, tt.Individual(9, rho=1.0)), "no partition"),
        (lambda: tt.CACR(1.0, normalize=False), "rows of length 1"),
        (lambda: tt.CACR(1.0, attraction=-1.0), "must be >= 0"),
        (lambda: tt.GRAM(tt.DySTreSS()), "GRAM's temperature: it follows from embeddings"),
        (lambda: tt.GRAM(tt.TempNet(4)), "a tuple of modalities has neither"),
        (lambda: tt.GRAM(0.1, eps=0.0), "eps must be > 0"),
        (lambda: tt.GRAM(0.1)(tuples(2)), "at least 3 modalities"),
        (lambda: tt.RelativeSigLIP(tt.Individual(9, rho=1.0)), "judged alone"),
    ],
)
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_anchors_without_a_negative_contribute_nothing(pair):
    ignore = torch.ones(N, N, dtype=torch.bool).fill_diagonal_(False)
    for loss_fn in (tt.ZLoss(1.0), tt.CACR(1.0), tt.MannWhitney(0.1)):
        loss = loss_fn(*pair, ignore=ignore)
        (grad,) = torch.autograd.grad(loss, pair[0])
        assert float(loss.detach()) == 0.0
        assert bool((grad == 0).all())
