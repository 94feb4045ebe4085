"""Own hard negatives of each anchor, against literal loops in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import Keys, OwnNegatives

N, K, L, D = 5, 3, 2, 4
INDEX = torch.tensor([5, 0, 3, 2, 2])
TILES = ["dense", (2, 3)]
LABELS = torch.tensor([0, 1, 0, 2, 1])
MISSING = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 1], [0, 0, 0]]).bool()


def vectors(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, D, generator=generator, dtype=torch.float64).requires_grad_()


@pytest.fixture
def batch():
    """x, y, negatives of x (N, K) and of y (N, L)."""
    return vectors(N), vectors(N, seed=1), vectors(N, K, seed=2), vectors(N, L, seed=3)


def cosines(anchors, others):
    return F.normalize(anchors, dim=-1) @ F.normalize(others, dim=-1).mT


def own_cosines(anchors, negatives):
    return [cosines(a, n) for a, n in zip(anchors, negatives, strict=True)]


def infonce(positives, negatives, own, tau):
    logits = torch.cat([positives, negatives, own]) / tau
    return logits.logsumexp(0) - positives.mean() / tau


def dcl(positives, negatives, own, tau):
    return (torch.cat([negatives, own]) / tau).logsumexp(0) - positives.mean() / tau


def siglip(positives, negatives, own, tau):
    wrong = F.softplus(torch.cat([negatives, own]) / tau - 2.0).sum()
    return wrong + F.softplus(-(positives / tau - 2.0)).sum()


def decoupled(positives, negatives, own, tau):
    below = (torch.cat([negatives, own]) / tau).logsumexp(0)
    return F.softplus(below - positives / tau).mean()


def nearest(positives, negatives, own, tau):
    logits = torch.cat([positives, negatives, own]) / tau
    return logits.logsumexp(0) - (positives / tau).logsumexp(0)


def max_margin(positives, negatives, own, margin):
    return (margin - positives + torch.cat([negatives, own])).clamp(min=0).mean()


LOSSES = {
    "InfoNCE": (tt.InfoNCE, infonce),
    "DCL": (tt.DCL, dcl),
    "SigLIP": (lambda c, **o: tt.SigLIP(c, -2.0, **o), siglip),
    "MaxMargin": (tt.MaxMargin, max_margin),
    "SupCon": (tt.SupCon, infonce),
    "logsum": (lambda c, **o: tt.SupCon(c, positives="logsum", **o), nearest),
    "decoupled": (tt.DecoupledSoftmax, decoupled),
}
LABELLED = ("SupCon", "logsum", "decoupled")


def literal(formula, anchors, others, own, taus, labels=None):
    """(N,) the formula of each anchor's positives, negatives and own negatives."""
    s, losses = cosines(anchors, others), []
    for i in range(N):
        positive = torch.arange(N) == i if labels is None else labels == labels[i]
        losses.append(formula(s[i][positive], s[i][~positive], own[i], taus[i]))
    return torch.stack(losses)


def assert_equal(found, expected, inputs):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.linspace(-1, 2, N, dtype=torch.float64)
    ours = torch.autograd.grad(found @ weight, inputs, allow_unused=True)
    theirs = torch.autograd.grad(expected @ weight, inputs, allow_unused=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


TAU = tt.ClusterShift(([1, 3, 9, 27, 81, 243], [9, 4, 1, 3, 2, 8]), 0.1, 0.5)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
@pytest.mark.parametrize("name", LOSSES)
def test_own_negatives_are_met_by_their_anchor_alone(batch, name, directions, tile):
    """With a value of each anchor, of both sides; K and L may differ."""
    make, formula = LOSSES[name]
    x, y, of_x, of_y = batch
    relation = {"labels": LABELS} if name in LABELLED else {}
    loss_fn = make(TAU, directions=directions, reduction="none", tile=tile).double()
    negatives = (None if directions == "y2x" else of_x, None if directions == "x2y" else of_y)
    found = loss_fn(x, y, (INDEX, INDEX), negatives=negatives, **relation)
    sides = {
        "x2y": literal(
            formula, x, y, own_cosines(x, of_x), TAU.side(INDEX, "x2y").double(), **relation
        ),
        "y2x": literal(
            formula, y, x, own_cosines(y, of_y), TAU.side(INDEX, "y2x").double(), **relation
        ),
    }
    assert_equal(found, sides.get(directions, (sides["x2y"] + sides["y2x"]) / 2), batch)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", LOSSES)
def test_missing_ones_change_nothing(batch, name, tile):
    make, formula = LOSSES[name]
    x, y, of_x, _ = batch
    relation = {"labels": LABELS} if name in LABELLED else {}
    filled = of_x.masked_fill(MISSING[:, :, None], float("nan"))
    loss_fn = make(0.3, directions="x2y", reduction="none", tile=tile)
    found = loss_fn(x, y, negatives=OwnNegatives(filled, missing_x=MISSING), **relation)
    own = [t[~gone] for t, gone in zip(own_cosines(x, of_x), MISSING, strict=True)]
    expected = literal(formula, x, y, own, [0.3] * N, **relation)
    assert_equal(found, expected, [x, y, of_x])


def one_of_all(anchors, others, own):
    """The candidates of all anchors in one matrix, and which of them each anchor meets not."""
    columns = torch.cat([others, own.flatten(0, 1)])
    of_others = ~torch.eye(N, dtype=torch.bool).repeat_interleave(own.shape[1], 1)
    return columns, torch.cat([torch.zeros(N, N, dtype=torch.bool), of_others], 1)


CONTROLS = {
    "learned": lambda: tt.Learnable(0.2, 0.01, 1.0),
    "mmts": lambda: tt.mmts([1, 2, 3, 4, 5, 6], 0.1, (0.1, 0.3), 7),
    "tempnet": lambda: tt.TempNet(D, rho=0.5, tau_range=(0.1, 0.5), prototypes=5, dropout=0.0),
    "individual": lambda: tt.Individual(6, rho=0.5, tau_init=0.2),
    "tau": lambda: tt.TaU(D, 0.1),
    "dystress": lambda: tt.DySTreSS(0.15, 0.3),
    "temo": lambda: tt.TeMo(0.15, 0.3) + tt.ClusterShift([1, 2, 3, 4, 5, 6], 0.1, 0.2),
    "macl": lambda: tt.MACL(0.2),
}
MORE = {
    "InfoNCE": tt.InfoNCE,
    "smoothed": lambda c, **o: tt.InfoNCE(c, label_smoothing=0.2, **o),
    "reweighted": lambda c, **o: tt.InfoNCE(c, force="reweighted", **o),
    "equalized": lambda c, **o: tt.InfoNCE(c, force="equalized", **o),
    "DCL": tt.DCL,
    "DCLW": tt.DCLW,
    "SigLIP": lambda c, **o: tt.SigLIP(c, -2.0, **o),
}


def state_and_gradients(loss_fn, loss, inputs):
    loss_fn.zero_grad()
    parameters = [p for p in loss_fn.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss.sum(), [*inputs, *parameters], allow_unused=True)
    loss_fn.step()
    return loss.detach(), found, dict(loss_fn.state_dict())


@pytest.mark.filterwarnings("ignore::tauten.losses.CompositionWarning")
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("name", MORE)
def test_every_control_drives_them_as_columns_that_others_ignore(batch, name, control, tile):
    """The same negatives as N·K columns of which each anchor meets its own: value, gradients of
    everything, and what a step learns.
    """
    x, y, of_x, _ = batch
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        options = {"directions": "x2y", "reduction": "none", "tile": tile}
        try:
            losses.append(MORE[name](CONTROLS[control](), **options).double())
        except ValueError:
            pytest.skip("they do not go together")
    columns, ignore = one_of_all(x, y, of_x)
    ids = (INDEX, torch.cat([INDEX, torch.zeros(N * K, dtype=torch.long)]))
    plain = losses[0](x, columns, ids, ignore=ignore)
    own = losses[1](x, y, INDEX, negatives=of_x)
    expected, found = (
        state_and_gradients(loss_fn, loss, batch[:3])
        for loss_fn, loss in zip(losses, (plain, own), strict=True)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("control", ["mmts", "dystress", "temo", "macl"])
@pytest.mark.parametrize("name", ["InfoNCE", "SigLIP"])
def test_anchors_of_y_are_anchors_of_x_with_the_sides_exchanged(batch, name, control, tile):
    x, y, _, of_y = batch
    one, other = (
        MORE[name](CONTROLS[control](), directions=d, reduction="none", tile=tile).double()
        for d in ("y2x", "x2y")
    )
    found = one(x, y, INDEX, negatives=(None, of_y))
    assert_equal(found, other(y, x, INDEX, negatives=of_y), [x, y, of_y])


@pytest.mark.parametrize("force", ["plain", "equalized"])
def test_the_size_of_a_hinge_counts_its_own_violations(batch, force):
    x, y, of_x, _ = batch
    loss_fn = tt.MaxMargin(0.4, force=force, directions="x2y", reduction="none")
    found = loss_fn(x, y, negatives=of_x)
    s, own = cosines(x, y), torch.stack(own_cosines(x, of_x))
    gaps = 0.4 - s.diagonal()[:, None] + torch.cat([s, own], 1)
    gaps = gaps[~torch.eye(N, N + K, dtype=torch.bool)].view(N, N - 1 + K).clamp(min=0)
    expected = gaps.mean(1)
    if force == "equalized":
        size = 1 / (gaps > 0).sum(1).clamp(min=1).double()
        expected = expected * size / size.mean()
    assert_equal(found, expected, [x, y, of_x])


@pytest.mark.parametrize("tile", TILES)
def test_beside_keys_of_a_queue(batch, tile):
    x, y, of_x, of_y = batch
    kx, ky = vectors(8, seed=5).detach(), vectors(8, seed=6).detach()
    found = tt.InfoNCE(0.2, reduction="none", tile=tile)(
        x, y, keys=Keys(kx, ky, torch.arange(8)), negatives=(of_x, of_y)
    )
    sides = [
        torch.stack(
            [torch.cat([s[i], own[i]]).div(0.2).logsumexp(0) - s[i, i] / 0.2 for i in range(N)]
        )
        for s, own in (
            (cosines(x, ky), own_cosines(x, of_x)),
            (cosines(y, kx), own_cosines(y, of_y)),
        )
    ]
    assert_equal(found, (sides[0] + sides[1]) / 2, batch)


def test_one_set_further_candidates_and_a_batch_of_one(batch):
    x, y, of_x, of_y = batch
    z, own = x, own_cosines(x, of_x)
    s = cosines(z, z).fill_diagonal_(-torch.inf) / 0.2
    found = tt.InfoNCE(0.2, reduction="none")(z, positives=torch.arange(N).roll(1), negatives=of_x)
    below = torch.stack([torch.cat([s[i], own[i] / 0.2]).logsumexp(0) for i in range(N)])
    assert_equal(found, below - s[torch.arange(N), torch.arange(N).roll(1)], [x, of_x])
    for make, formula in (LOSSES[name] for name in ("InfoNCE", "DCL", "MaxMargin", "SigLIP")):
        alone = make(0.2, directions="x2y")(x[:1], y[:1], negatives=of_x[:1])
        t = own_cosines(x, of_x)[0]
        expected = formula(cosines(x, y)[0, :1], t[:0], t, 0.2)
        torch.testing.assert_close(alone, expected)
    more = tt.InfoNCE(0.2)(x[:2], y, negatives=(of_x[:2], of_y))  # y2x has two anchors
    one = tt.InfoNCE(0.2, directions="x2y")(x[:2], y, negatives=of_x[:2])
    two = tt.InfoNCE(0.2, directions="y2x")(x[:2], y[:2], negatives=(None, of_y[:2]))
    torch.testing.assert_close(more, (one + two) / 2)


@pytest.mark.parametrize("tile", TILES)
def test_targets_and_weights_give_own_negatives_no_share(batch, tile):
    x, y, of_x, _ = batch
    q = torch.rand(N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    s, own = cosines(x, y) / 0.2, torch.stack(own_cosines(x, of_x)) / 0.2
    below = torch.cat([s, own], 1).logsumexp(1)
    loss_fn = tt.InfoNCE(0.2, directions="x2y", reduction="none", tile=tile)
    expected = below - (q / q.sum(1, keepdim=True) * s).sum(1)
    assert_equal(loss_fn(x, y, targets=q, negatives=of_x), expected, [x, y, of_x])
    s, own = cosines(x, y) / 0.2, torch.stack(own_cosines(x, of_x)) / 0.2
    weights = q.clone().fill_diagonal_(1.0)
    below = torch.cat([s + weights.log(), own], 1).logsumexp(1)
    assert_equal(loss_fn(x, y, repulsion=q, negatives=of_x), below - s.diagonal(), [x, y, of_x])


def test_forces_have_their_own_columns(batch):
    x, y, of_x, of_y = batch
    order = torch.arange(N).roll(2)
    found = tt.forces(tt.InfoNCE(0.3), x, y, positives=order, negatives=(of_x, of_y)).pairs
    assert found.shape == (N, N + K + L)
    s = cosines(x, y) / 0.3
    p = torch.cat([s, torch.stack(own_cosines(x, of_x)) / 0.3], 1).softmax(1)
    q = torch.cat([s.T, torch.stack(own_cosines(y, of_y)) / 0.3], 1).softmax(1)
    eye = F.one_hot(order, N)
    expected = torch.cat([p[:, :N] + q[:, :N].T - 2 * eye, p[:, N:], q[order, N:]], 1) / 0.6
    torch.testing.assert_close(found, expected.detach())


def test_second_derivatives_where_the_matrix_is_held(batch):
    loss_fn = tt.InfoNCE(0.3)
    assert torch.autograd.gradgradcheck(
        lambda x, y, a, b: loss_fn(x, y, negatives=(a, b)),
        [v[:3] for v in batch],
        atol=1e-6,
        fast_mode=True,
    )


def test_a_bad_one_is_named(batch):
    x, y, of_x, _ = (side.detach().clone() for side in batch)
    of_x[3, 1, 0] = float("nan")
    with pytest.raises(tt.NonFiniteLossError, match=r"negatives= of x has NaN .* 1 of 5 rows: 3"):
        tt.InfoNCE(0.1)(x, y, negatives=of_x)


X, Y = vectors(4).detach(), vectors(4, seed=1).detach()
OWN = vectors(4, 2, seed=2).detach()


class Mine(tt.InfoNCE):
    """A loss of one's own that does not say what it does with own negatives."""

    def anchor_losses(self, batch, directions):
        return [batch.positives(d) for d in directions]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.SMS(0.1), "SMS takes no negatives="),
        (lambda: tt.SogCLR(4, 0.1), "SogCLR takes no negatives=: hard negatives shift"),
        (lambda: tt.iSogCLR(4, 1.0), "iSogCLR takes no negatives="),
        (lambda: tt.FastCLIP(4, "v1", 0.9), "FastCLIP takes no negatives="),
        (lambda: tt.NUCLR(4), "NUCLR takes no negatives="),
        (lambda: Mine(0.1), "Mine takes no negatives=: it does not say"),
        (lambda: tt.InfoNCE(tt.PairDistance(X)), "looks up both samples"),
    ],
)
def test_losses_and_controls_without_them(make, message):
    with pytest.raises(ValueError, match=message):
        make()(X, Y, torch.arange(4), negatives=OWN)


@pytest.mark.parametrize(
    ("options", "negatives", "message"),
    [
        ({}, OWN[:3], r"must be \(4, K, 4\)"),
        ({}, OWN[:, 0], r"floating \(N, K, d\) with K > 0"),
        ({}, OWN[:, :0], "with K > 0"),
        ({}, OWN.long(), "floating"),
        ({}, (None, None), "got none"),
        ({}, [OWN] * 3, "got list"),
        ({"directions": "y2x"}, OWN, "anchors of x, and directions='y2x' has none"),
        ({"directions": "x2y"}, (OWN, OWN), "anchors of y, and directions='x2y' has none"),
    ],
)
def test_what_is_refused(options, negatives, message):
    with pytest.raises(ValueError, match=message):
        tt.InfoNCE(0.1, **options)(X, Y, negatives=negatives)


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"missing_x must be bool \(4, 2\)"):
        OwnNegatives(OWN, missing_x=torch.zeros(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="no negatives for_y"):
        OwnNegatives(OWN, missing_y=torch.zeros(4, 2, dtype=torch.bool))
