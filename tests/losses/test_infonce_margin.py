"""InfoNCE whose positives must win by a margin, against torch's cross-entropy in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D = 6, 5
COUNTS = [1, 3, 9, 27, 81, 243]
INDEX = torch.tensor([5, 0, 3, 2, 2, 1])
TAU, MARGIN = tt.ClusterShift(COUNTS, 0.1, 0.5), tt.ClusterShift(COUNTS, -0.3, 0.4)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(N, D, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


def formula(x, y, directions, smoothing):
    tau, margin = TAU.double().at(INDEX).double()[:, None], MARGIN.double().at(INDEX).double()
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T - margin.diag()
    told = {"label_smoothing": smoothing, "reduction": "none"}
    rows = torch.arange(N)
    forward, back = F.cross_entropy(s / tau, rows, **told), F.cross_entropy(s.T / tau, rows, **told)
    return {"both": (forward + back) / 2, "x2y": forward, "y2x": back}[directions]


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_it_equals_the_cross_entropy(pair, directions, smoothing, tile):
    options = {"directions": directions, "label_smoothing": smoothing, "tile": tile}
    loss_fn = tt.InfoNCE(TAU, margin=MARGIN, reduction="none", **options).double()
    found, expected = loss_fn(*pair, INDEX), formula(*pair, directions, smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    ours = torch.autograd.grad(found @ weight, pair)
    theirs = torch.autograd.grad(expected @ weight, pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


ANGLE = tt.ClusterShift(COUNTS, -0.4, 0.9)


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_angular_margin_is_that_of_arcface(pair, directions, smoothing, tile):
    tau, margin = TAU.double().at(INDEX).double()[:, None], ANGLE.double().at(INDEX).double()
    s = F.normalize(pair[0], dim=1) @ F.normalize(pair[1], dim=1).T
    s = s - s.diag().diag() + (s.diag().acos() + margin).cos().diag()
    told = {"label_smoothing": smoothing, "reduction": "none"}
    rows = torch.arange(N)
    forward, back = F.cross_entropy(s / tau, rows, **told), F.cross_entropy(s.T / tau, rows, **told)
    expected = {"both": (forward + back) / 2, "x2y": forward, "y2x": back}[directions]
    options = {"directions": directions, "label_smoothing": smoothing, "tile": tile}
    loss_fn = tt.InfoNCE(TAU, margin=ANGLE, margin_of="angle", reduction="none", **options)
    found = loss_fn.double()(*pair, INDEX)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    ours = torch.autograd.grad(found @ weight, pair)
    theirs = torch.autograd.grad(expected @ weight, pair)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("margin", [-1.2, -0.5, 0.5, 1.2])
def test_an_angular_margin_never_turns_the_attraction_around(margin):
    """Positives from one direction to the opposite, where θ + m is below 0 or above π."""
    angle = torch.linspace(0.01, 3.13, 40, dtype=torch.float64)
    y = torch.stack([angle.cos(), angle.sin()], dim=1).requires_grad_()
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(40, 2)
    loss_fn = tt.InfoNCE(0.5, margin=margin, margin_of="angle", directions="x2y", reduction="none")
    loss = torch.cat([loss_fn(x[:1], torch.cat([row[None], -x[:1]])) for row in y])
    assert bool((loss.diff() > 0).all())
    (grad,) = torch.autograd.grad(loss.sum(), y)
    assert bool(grad.isfinite().all())


@pytest.mark.parametrize("kind", ["cosine", "angle"])
def test_interclr_without_margin_is_moco_and_both_kinds_are_schedulable(pair, kind):
    """0.75·intra + 0.25·inter: a positive of the same cluster, own negatives of others."""
    inter, hard = pair[1].roll(1, 0), pair[1].detach().flip(0).unsqueeze(1).repeat(1, 3, 1)
    queue = torch.randn(9, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ignore = ~torch.eye(N, dtype=torch.bool)

    def ours(margin):
        intra = tt.InfoNCE(0.2, directions="x2y")(pair[0], torch.cat([pair[1], queue]))
        of_cluster = tt.InfoNCE(0.2, margin=margin, margin_of=kind, directions="x2y")
        other = of_cluster(pair[0], inter, ignore=ignore, negatives=hard)
        return 0.75 * intra + 0.25 * other

    def formula(m):
        x, y, q, p = (F.normalize(z, dim=-1) for z in (pair[0], pair[1], queue, inter))
        moco = torch.cat([(x * y).sum(1, keepdim=True), x @ torch.cat([y, q]).T], dim=1)
        moco[torch.arange(N), torch.arange(N) + 1] = -torch.inf
        s = (x * p).sum(1)
        s = s - m if kind == "cosine" else (s.acos() + m).cos()
        near = (x[:, None] * F.normalize(hard, dim=2)).sum(2)
        rows = torch.zeros(N, dtype=torch.long)
        other = F.cross_entropy(torch.cat([s[:, None], near], dim=1) / 0.2, rows)
        return 0.75 * F.cross_entropy(moco / 0.2, rows) + 0.25 * other

    for margin in (0.0, -0.5, 0.3):
        torch.testing.assert_close(ours(margin), formula(margin), rtol=1e-9, atol=1e-9)
    scheduled = tt.InfoNCE(0.1, margin=tt.Anneal(-0.5, 0.4, steps=2), margin_of=kind).double()
    values = []
    for m in (-0.5, -0.05, 0.4):
        values.append(float(scheduled(*pair)))
        fixed = tt.InfoNCE(0.1, margin=m, margin_of=kind).double()
        assert values[-1] == pytest.approx(float(fixed(*pair)), rel=1e-9)
        scheduled.step()
    assert values[0] < values[1] < values[2]


def test_no_margin_is_the_loss_as_before(pair):
    assert torch.equal(tt.InfoNCE(0.1, margin=0.0)(*pair), tt.InfoNCE(0.1)(*pair))


def test_a_scheduled_margin_moves_with_the_steps(pair):
    loss_fn = tt.InfoNCE(0.1, margin=tt.Anneal(0.0, 0.4, steps=2)).double()
    for _ in range(2):
        loss_fn.step()
    torch.testing.assert_close(loss_fn(*pair), tt.InfoNCE(0.1, margin=0.4).double()(*pair))


@pytest.mark.filterwarnings("ignore::tauten.CompositionWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.InfoNCE(0.1, margin=tt.Learnable(0.1, 0.0, 1.0)), "margin only shrinks"),
        (lambda: tt.InfoNCE(0.1, margin=tt.DySTreSS()), "has one margin"),
        (lambda: tt.InfoNCE(0.1, margin=0.1, force="reweighted"), "has the gradient of DCL"),
        (lambda: tt.InfoNCE(tt.Individual(9, rho=1.0), margin=0.1), "robust objective"),
        (lambda: tt.InfoNCE(0.1, margin=float("nan")), "finite"),
        (lambda: tt.InfoNCE(0.1, margin=0.1, margin_of="arc"), "'cosine' or 'angle', got 'arc'"),
        (lambda: tt.InfoNCE(0.1, margin_of="angle", normalize=False), "needs cosines"),
    ],
)
def test_what_it_means_nothing_to_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [tt.DCL, tt.SupCon])
def test_losses_in_which_it_means_nothing_do_not_have_it(make):
    with pytest.raises(TypeError, match="has no option margin="):
        make(0.1, margin=0.1)


def test_several_positives_have_no_margin(pair):
    with pytest.raises(ValueError, match="margin= is what one positive must win by"):
        tt.InfoNCE(0.1, margin=0.1)(*pair, labels=INDEX // 2)
