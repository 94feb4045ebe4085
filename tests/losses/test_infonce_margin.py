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
