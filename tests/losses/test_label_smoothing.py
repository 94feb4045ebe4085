"""InfoNCE against smoothed targets: cross-entropies of explicit distributions in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D, EPS = 6, 5, 0.2
INDEX = torch.tensor([5, 0, 3, 2, 2, 1])
TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243], 0.1, 0.5)
VALUES = 0.1 + 0.4 * (torch.tensor([1.0, 3, 9, 27, 81, 243]).double()[INDEX] - 1) / 242
TILES = ["dense", (2, 3)]


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(5)
    x, y = (torch.randn(N, D, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


def smoothed(logits, positive, kept):
    """Cross-entropy of each row of logits against its distribution over the kept candidates."""
    losses = []
    for row, own, keep in zip(logits, positive, kept, strict=True):
        own, row = own[keep].double(), row[keep]
        target = (1 - EPS) * own / own.sum() + EPS / len(row)
        losses.append(-(target * row.log_softmax(0)).sum())
    return torch.stack(losses)


def assert_equal(found, expected, pair):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.linspace(-1, 2, len(found), dtype=torch.float64)
    ours = torch.autograd.grad(found @ weight, pair, allow_unused=True)
    theirs = torch.autograd.grad(expected @ weight, pair, allow_unused=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
def test_nothing_ignored_is_torchs_cross_entropy(pair, directions, tile):
    tau = VALUES[:, None]
    s = F.normalize(pair[0], dim=1) @ F.normalize(pair[1], dim=1).T
    told = {"label_smoothing": EPS, "reduction": "none"}
    sides = {
        d: F.cross_entropy(m / tau, torch.arange(N), **told) for d, m in (("x2y", s), ("y2x", s.T))
    }
    expected = sides.get(directions, (sides["x2y"] + sides["y2x"]) / 2)
    loss_fn = tt.InfoNCE(
        TAU, label_smoothing=EPS, directions=directions, reduction="none", tile=tile
    )
    assert_equal(loss_fn.double()(*pair, INDEX), expected, pair)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("with_labels", [False, True])
def test_ignored_candidates_have_no_share(pair, with_labels, tile):
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[1, [0, 2, 3, 4, 5]] = ignore[3, 5] = ignore[0, 4] = True
    labels = torch.tensor([0, 1, 0, 2, 0, 1])
    relation = {"ignore": ignore} | ({"labels": labels} if with_labels else {})
    positive = labels[:, None] == labels if with_labels else torch.eye(N, dtype=torch.bool)
    tau = VALUES[:, None]
    s = F.normalize(pair[0], dim=1) @ F.normalize(pair[1], dim=1).T
    expected = smoothed(s / tau, positive, ~ignore) + smoothed(s.T / tau, positive.T, ~ignore.T)
    loss_fn = tt.InfoNCE(TAU, label_smoothing=EPS, reduction="none", tile=tile).double()
    assert_equal(loss_fn(*pair, INDEX, **relation), expected / 2, pair)


def test_one_set_of_embeddings(pair):
    labels, z = torch.tensor([0, 1, 0, 2, 2, 1]), pair[0]
    s = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T
    kept = ~torch.eye(N, dtype=torch.bool)
    expected = smoothed(s / 0.1, labels[:, None] == labels, kept)
    loss_fn = tt.SupCon(0.1, label_smoothing=EPS, reduction="none").double()
    assert_equal(loss_fn(z, labels=labels), expected, [z])


def test_further_candidates_and_temperatures_of_pairs(pair):
    x, y = pair[0][:4], pair[1]
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    tau = 0.2 + 0.05 * (1 + torch.cos(torch.pi * (s.detach() - 1)))
    options = {"label_smoothing": EPS, "directions": "x2y", "reduction": "none"}
    loss_fn = tt.InfoNCE(tt.DySTreSS(0.2, 0.3), **options).double()
    positive = torch.eye(4, N, dtype=torch.bool)
    expected = smoothed(s / tau, positive, torch.ones(4, N, dtype=torch.bool))
    assert_equal(loss_fn(x, y), expected, pair)


def test_no_smoothing_is_the_loss_as_before(pair):
    assert torch.equal(tt.InfoNCE(0.1, label_smoothing=0.0)(*pair), tt.InfoNCE(0.1)(*pair))


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), "a", True])
def test_values_outside_the_range_are_refused(value):
    with pytest.raises(ValueError, match="label_smoothing must be"):
        tt.InfoNCE(0.1, label_smoothing=value)


class Another(tt.InfoNCE):
    """A loss of one's own that takes InfoNCE's options."""

    def anchor_losses(self, batch, directions):
        return [batch.positives(d) for d in directions]


@pytest.mark.parametrize("make", [tt.DCL, tt.DCLW])
def test_losses_of_the_negatives_alone_do_not_have_the_option(make):
    with pytest.raises(TypeError, match="has no option label_smoothing="):
        make(0.1, label_smoothing=0.1)


@pytest.mark.filterwarnings("ignore::tauten.CompositionWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Another(0.1, label_smoothing=0.1), "Another is no cross-entropy"),
        (lambda: tt.InfoNCE(0.1, label_smoothing=0.1, force="reweighted"), "has the gradient of"),
        (lambda: tt.InfoNCE(tt.Individual(9, rho=1.0), label_smoothing=0.1), "robust objective"),
    ],
)
def test_what_it_means_nothing_to_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
