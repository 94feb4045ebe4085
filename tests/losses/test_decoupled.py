"""Decoupled softmax and soft top-k against their formulas in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from related import INDEX, LABELS, TILES, D, N, check, drawn_pair, relations, sides

TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243], 0.1, 0.5)
MARGIN = tt.ClusterShift([1, 3, 9, 27, 81, 243], -0.1, 0.3)


@pytest.fixture
def pair():
    return drawn_pair()


def decoupled(pair, relation, tau, margin):
    of_sides = []
    for s, positive, kept in sides(pair, relation):
        losses = []
        for i in range(N):
            negatives = [s[i, j] / tau[i] for j in range(N) if kept[i, j] and not positive[i, j]]
            each = []
            for p in range(N):
                if positive[i, p]:
                    own = ((s[i, p] - margin[i]) / tau[i]).exp()
                    each.append(-(own / (own + torch.stack(negatives).exp().sum())).log())
            losses.append(sum(each) / len(each))
        of_sides.append(torch.stack(losses))
    return sum(of_sides) / 2


def soft_top_k(pair, relation, tau, k, margin):
    """The threshold is found by bisection; its derivative by the implicit function theorem."""
    of_sides = []
    for s, positive, kept in sides(pair, relation):
        losses = []
        for i in range(N):
            scores = s[i][kept[i]] / tau[i]
            low, high = scores.new_tensor(-1e3), scores.new_tensor(1e3)
            for _ in range(200):
                middle = (low + high) / 2
                much = torch.sigmoid(scores.detach() + middle).sum() > k
                low, high = (low, middle) if much else (middle, high)
            slope = torch.sigmoid(scores.detach() + low) * torch.sigmoid(-scores.detach() - low)
            moved = -(slope * scores).sum() / slope.sum()
            threshold = low + moved - moved.detach()
            logits = (s[i][positive[i]] - margin[i]) / tau[i] + threshold
            losses.append(-F.logsigmoid(logits).mean())
        of_sides.append(torch.stack(losses))
    return sum(of_sides) / 2


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tau", [0.005, 0.001, 1e-4])
@pytest.mark.parametrize("k", [1, 3])
def test_a_steep_step_lies_midway_between_the_last_chosen_and_the_next(k, tau, dtype, tile):
    """There Σ_j σ(z_j) = k in whatever place of the gap, to the digits of the sum."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.linspace(-1, 1, 7)[torch.randperm(7, generator=generator)] for _ in range(5)]
    s = torch.stack(rows).to(dtype).requires_grad_()
    loss_fn = tt.SoftTopK(tau, k, normalize=False, directions="x2y", reduction="none", tile=tile)
    found = loss_fn(s, torch.eye(7, dtype=dtype))
    best = s.topk(k + 1, dim=1).values / tau
    z = s.diagonal() / tau - (best[:, -2] + best[:, -1]) / 2
    expected = torch.logaddexp(torch.zeros_like(z), -z)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)
    ours, theirs = (torch.autograd.grad(value.sum(), s) for value in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("relation", relations(), ids=" ".join)
def test_decoupled_softmax_equals_the_formula(pair, relation, tile):
    loss_fn = tt.DecoupledSoftmax(TAU, margin=MARGIN, reduction="none", tile=tile).double()
    expected = decoupled(
        pair, relation, TAU.double().at(INDEX).double(), MARGIN.double().at(INDEX).double()
    )
    check(loss_fn(*pair, INDEX, **relation), expected, pair)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("relation", relations(), ids=" ".join)
def test_soft_top_k_equals_the_formula(pair, relation, k, tile):
    loss_fn = tt.SoftTopK(TAU, k, margin=MARGIN, reduction="none", tile=tile).double()
    check(
        loss_fn(*pair, INDEX, **relation),
        soft_top_k(
            pair, relation, TAU.double().at(INDEX).double(), k, MARGIN.double().at(INDEX).double()
        ),
        pair,
    )


def test_with_one_positive_decoupled_softmax_is_infonce(pair):
    for options in ({}, {"margin": MARGIN}, {"force": "equalized"}):
        for control in (TAU, tt.DySTreSS()):
            if "force" in options and control is not TAU:
                continue
            found = tt.DecoupledSoftmax(control, **options).double()(*pair, INDEX)
            plain = tt.InfoNCE(control, **options).double()(*pair, INDEX)
            torch.testing.assert_close(found, plain)


def test_weights_of_negatives_and_own_ones_are_those_of_infonce(pair):
    generator = torch.Generator().manual_seed(2)
    hard = torch.randn(N, 2, D, generator=generator, dtype=torch.float64)
    weights = 0.5 + torch.rand(N, N, generator=generator, dtype=torch.float64)
    for words in ({"negatives": hard}, {"repulsion": weights}):
        found = tt.DecoupledSoftmax(TAU, directions="x2y").double()(*pair, INDEX, **words)
        plain = tt.InfoNCE(TAU, directions="x2y").double()(*pair, INDEX, **words)
        torch.testing.assert_close(found, plain)
    with pytest.raises(ValueError, match="takes no targets=: where every candidate is partly"):
        tt.DecoupledSoftmax(0.1)(*pair, targets=weights)


def test_positives_of_an_anchor_do_not_repel_each_other(pair):
    x, y = (side.detach() for side in pair)
    equal = LABELS[:, None] == LABELS
    assert bool((tt.forces(tt.DecoupledSoftmax(0.2), x, y, labels=LABELS).pairs[equal] < 0).all())
    assert bool((tt.forces(tt.SupCon(0.05), x, y, labels=LABELS).pairs[equal] > 0).any())


def test_anchors_without_a_negative_contribute_nothing(pair):
    x, y = pair
    everything = torch.zeros(N, dtype=torch.long)
    assert float(tt.DecoupledSoftmax(0.1)(x, y, labels=everything).detach()) == 0.0
    ignore = torch.ones(N, N, dtype=torch.bool).fill_diagonal_(False)
    loss = tt.SoftTopK(0.1)(x, y, ignore=ignore)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert bool((x.grad == 0).all())


def test_a_score_that_all_share_changes_nothing(pair):
    s = torch.randn(N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one = torch.eye(N, dtype=torch.float64)
    loss_fn = tt.SoftTopK(0.2, 2, normalize=False, directions="x2y").double()
    torch.testing.assert_close(loss_fn(s, one), loss_fn(s + 7.0, one))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.SoftTopK(tt.Learnable(0.1, 0.01, 1.0)), "the width of the step"),
        (lambda: tt.SoftTopK(tt.Individual(9, rho=1.0)), "no partition to learn τ from"),
        (lambda: tt.SoftTopK(0.1, 0), "k must be"),
        (lambda: tt.SoftTopK(0.1, 3)(torch.randn(3, 4), torch.randn(3, 4)), "more than k cand"),
        (lambda: tt.DecoupledSoftmax(tt.Individual(9, rho=1.0)), "a partition of its own"),
        (lambda: tt.DecoupledSoftmax(0.1, margin=tt.Learnable(0.1, 0.0, 1.0)), "only shrinks"),
    ],
)
def test_what_means_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
