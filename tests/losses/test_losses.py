"""Losses against literal loops, and what they promise."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, D = 7, 5
COUNTS = [1, 3, 9, 27, 81, 243, 729]
INDEX = torch.tensor([6, 0, 3, 2, 2, 5, 1])
#: of the fixture tau
VALUES = 0.1 + 0.4 * np.log(np.array(COUNTS)[INDEX.numpy()]) / math.log(729)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    y = 0.7 * x + torch.randn(N, D, generator=generator, dtype=torch.float64)
    return F.normalize(x, dim=1), F.normalize(y, dim=1)


@pytest.fixture
def tau():
    return tt.ClusterShift(COUNTS, 0.1, 0.5, scale="log")


def duplicates():
    image = torch.tensor([0, 1, 2, 0, 4, 5, 6])
    caption = torch.tensor([0, 1, 1, 3, 4, 4, 4])
    dropped = (image[:, None] == image) | (caption[:, None] == caption)
    return (image, caption), dropped.numpy()


@pytest.mark.parametrize("tile", ["dense", 3])
@pytest.mark.parametrize("with_duplicates", [False, True])
def test_infonce_equals_the_loop(pair, tau, tile, with_duplicates, oracles):
    same, dropped = duplicates() if with_duplicates else ((), None)
    loss_fn = tt.InfoNCE(tau, tile=tile, reduction="none")
    expected = oracles.infonce((pair[0] @ pair[1].T).numpy(), VALUES, VALUES, dropped)
    np.testing.assert_allclose(loss_fn(*pair, INDEX, same=same), expected, rtol=1e-9)


@pytest.mark.parametrize("tile", ["dense", 3])
def test_each_side_may_have_ids_and_counts_of_its_own(pair, tile, oracles):
    other = torch.tensor([11, 1, 0, 6, 4, 3, 5])
    counts = [729, 2, 5, 14, 3, 3, 90, 1, 1, 1, 1, 40]
    tau = tt.ClusterShift((COUNTS, counts), 0.1, 0.5, scale="log")
    loss_fn = tt.InfoNCE(tau, tile=tile, reduction="none")
    taus = [
        0.1 + 0.4 * np.log([table[i] for i in ids.tolist()]) / math.log(729)
        for table, ids in ((COUNTS, INDEX), (counts, other))
    ]
    expected = oracles.infonce((pair[0] @ pair[1].T).numpy(), *taus)
    np.testing.assert_allclose(loss_fn(*pair, (INDEX, other)), expected, rtol=1e-6)
    for found, wanted in zip(loss_fn.tau((INDEX, other)), taus, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    composed = tt.InfoNCE(0.5 * tau + 0.1)
    np.testing.assert_allclose(composed.tau((INDEX, other))[1], 0.5 * taus[1] + 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda tau: tt.InfoNCE(tau),
        lambda tau: tt.InfoNCE(0.1, weight=tau),
        lambda tau: tt.SogCLR((7, 12), 0.5 * tau + 0.1),
        lambda tau: tt.MaxMargin(tau),
    ],
)
def test_ids_of_two_kinds_need_numbers_of_two_kinds(pair, tau, make):
    """No count of another image in the place of a caption's."""
    other = torch.tensor([1, 1, 0, 6, 4, 3, 5])
    loss_fn = make(tau)
    with pytest.raises(ValueError, match=r"other ids for y than for x, .* has one table, of x"):
        loss_fn(*pair, (INDEX, other))
    loss_fn(*pair, (INDEX, INDEX.clone()))
    if loss_fn.strength.needs_index:
        with pytest.raises(ValueError, match="has one table, of x"):
            loss_fn.tau((INDEX, other))


def test_counts_of_two_sides_are_no_others(tau):
    counts = tt.ClusterShift(([1, 2], [3]), 0.1, 0.5)
    with pytest.raises(ValueError, match="another data set"):
        tt.ClusterShift(([1], [2, 3]), 0.1, 0.5).load_state_dict(counts.state_dict())
    assert tt.ClusterShift((1, 3), 0.1, 0.5).at(torch.arange(2)).tolist() == pytest.approx(
        [0.1, 0.5]
    )
    assert counts.side(torch.tensor([0]), "y2x").tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("tile", ["dense", 3])
@pytest.mark.parametrize("with_duplicates", [False, True])
def test_max_margin_equals_the_loop(pair, tau, tile, with_duplicates, oracles):
    same, dropped = duplicates() if with_duplicates else ((), None)
    loss_fn = tt.MaxMargin(tau, tile=tile, reduction="none")
    expected = oracles.max_margin((pair[0] @ pair[1].T).numpy(), VALUES, dropped)
    np.testing.assert_allclose(loss_fn(*pair, INDEX, same=same), expected, rtol=1e-9, atol=1e-12)


def test_relevance_multiplies_the_margin_of_both_directions(pair, oracles):
    relevance = torch.linspace(0.2, 1.0, N)
    expected = oracles.max_margin((pair[0] @ pair[1].T).numpy(), 0.4 * relevance.double().numpy())
    found = tt.MaxMargin(0.4, reduction="none")(*pair, relevance=relevance)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("tile", ["dense", 3])
@pytest.mark.parametrize("with_duplicates", [False, True])
def test_dcl_equals_the_loop(pair, tau, tile, with_duplicates, oracles):
    same, dropped = duplicates() if with_duplicates else ((), None)
    loss_fn = tt.DCL(tau, tile=tile, reduction="none")
    expected = oracles.dcl((pair[0] @ pair[1].T).numpy(), VALUES, dropped)
    np.testing.assert_allclose(loss_fn(*pair, INDEX, same=same), expected, rtol=1e-9)


@pytest.mark.parametrize("tile", ["dense", 3])
@pytest.mark.parametrize("with_duplicates", [False, True])
def test_siglip_equals_the_loop(pair, tau, tile, with_duplicates, oracles):
    same, dropped = duplicates() if with_duplicates else ((), None)
    loss_fn = tt.SigLIP(tau, bias=-2.0, tile=tile, reduction="none")
    expected = oracles.siglip((pair[0] @ pair[1].T).numpy(), VALUES, -2.0, dropped)
    np.testing.assert_allclose(loss_fn(*pair, INDEX, same=same), expected, rtol=1e-9)


def test_dcl_attraction_never_fades(pair):
    """∂ℓ_i/∂s_ii = −1/τ, however well separated the pair is."""
    similarity = (pair[0] @ pair[1].T).detach().requires_grad_()
    loss_fn = tt.DCL(0.2, normalize=False, reduction="sum")
    loss_fn(similarity, torch.eye(N, dtype=torch.float64)).backward()
    np.testing.assert_allclose(similarity.grad.diagonal(), np.full(N, -5.0), rtol=1e-6)


@pytest.mark.parametrize("tile", ["dense", 3])
def test_an_anchor_without_negatives_gives_dcl_nothing(pair, tile):
    x = pair[0].clone().requires_grad_()
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[2, :] = ignore[:, 2] = True
    ignore[2, 2] = False
    values = tt.DCL(0.2, tile=tile, reduction="none")(x, pair[1], ignore=ignore)
    values.sum().backward()
    assert float(values[2].detach()) == 0.0
    assert torch.isfinite(x.grad).all()
    assert torch.equal(x.grad[2], torch.zeros(D, dtype=torch.float64))


@pytest.mark.parametrize("loss", ["InfoNCE", "DCL"])
def test_labels_take_the_mean_over_positives(pair, loss):
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    s = (pair[0] @ pair[1].T) / 0.3
    positive = labels[:, None] == labels
    candidates = s if loss == "InfoNCE" else s.masked_fill(positive, -float("inf"))
    mean = (s * positive).sum(1) / positive.sum(1)
    mean_back = (s * positive).sum(0) / positive.sum(0)
    expected = (candidates.logsumexp(1) - mean + candidates.logsumexp(0) - mean_back) / 2
    found = getattr(tt, loss)(0.3, reduction="none")(*pair, labels=labels)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("tile", ["dense", 3])
@pytest.mark.parametrize("loss", ["InfoNCE", "DCL", "SigLIP"])
def test_equal_ids_never_leave_a_positive_out(pair, loss, tile):
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    loss_fn = getattr(tt, loss)(0.3, tile=tile, reduction="none")
    plain = loss_fn(*pair, labels=labels)
    torch.testing.assert_close(loss_fn(*pair, labels=labels, same=labels), plain)


@pytest.mark.parametrize("tile", ["dense", 3])
def test_labels_alone_say_who_is_positive(pair, tile):
    """Labels of the two sides that disagree on the diagonal."""
    left, right = torch.tensor([0, 1, 2, 3, 4, 5, 6]), torch.tensor([1, 0, 3, 2, 5, 6, 4])
    s = (pair[0] @ pair[1].T) / 0.3
    positive = left[:, None] == right
    negatives = s.masked_fill(positive, -float("inf")).logsumexp(1)
    expected = negatives - (s * positive).sum(1)
    loss_fn = tt.DCL(0.3, directions="x2y", tile=tile, reduction="none")
    torch.testing.assert_close(loss_fn(*pair, labels=(left, right)), expected, rtol=1e-6, atol=1e-7)


def test_siglip_with_labels_classifies_every_pair(pair):
    labels = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    z = torch.where(labels[:, None] == labels, 1.0, -1.0).double()
    logits = (pair[0] @ pair[1].T) / 0.3 - 2.0
    expected = F.softplus(-z * logits).sum() / N
    found = tt.SigLIP(0.3, bias=-2.0)(*pair, labels=labels)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_permuting_the_batch_permutes_the_anchors(pair, tau):
    order = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    for loss_fn in (tt.InfoNCE(tau, reduction="none"), tt.MaxMargin(tau, reduction="none")):
        whole = loss_fn(*pair, INDEX)
        found = loss_fn(pair[0][order], pair[1][order], INDEX[order])
        torch.testing.assert_close(found, whole[order])


def test_permuted_positives_equal_the_permuted_side(pair, tau):
    positives = torch.tensor([3, 1, 6, 0, 2, 5, 4])
    ids_y = torch.empty_like(INDEX)
    ids_y[positives] = INDEX
    y = torch.empty_like(pair[1])
    y[positives] = pair[1]
    for make in (tt.InfoNCE, tt.MaxMargin, tt.DCL):
        loss_fn = make(tau, reduction="none")
        found = loss_fn(pair[0], y, (INDEX, ids_y), positives=positives)
        torch.testing.assert_close(found, loss_fn(*pair, INDEX))


def test_more_candidates_than_anchors(pair):
    queue = F.normalize(torch.randn(4, D, dtype=torch.float64), dim=1)
    keys = torch.cat([queue, pair[1]])
    found = tt.InfoNCE(0.2, directions="x2y")(pair[0], keys, positives=torch.arange(N) + 4)
    expected = F.cross_entropy(pair[0] @ keys.T / 0.2, torch.arange(N) + 4)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_two_views_of_one_modality_are_nt_xent(pair):
    z = torch.cat(pair)
    ids = torch.arange(N).repeat(2)
    positives = (torch.arange(2 * N) + N) % (2 * N)
    found = tt.InfoNCE(0.5, directions="x2y")(z, z, positives=positives, same=ids)
    s = (z @ z.T / 0.5).fill_diagonal_(-float("inf"))
    assert float(found) == pytest.approx(float(F.cross_entropy(s, positives)), rel=1e-6)


def test_reductions_agree(pair):
    values = tt.InfoNCE(0.2, reduction="none")(*pair)
    assert values.shape == (N,)
    assert float(tt.InfoNCE(0.2)(*pair)) == pytest.approx(float(values.mean()))
    assert float(tt.InfoNCE(0.2, reduction="sum")(*pair)) == pytest.approx(float(values.sum()))


def test_weight_multiplies_each_anchor(pair, tau):
    plain = tt.InfoNCE(0.2, reduction="none")(*pair)
    weight = 0.1 / tau
    found = tt.InfoNCE(0.2, weight=weight, reduction="none")(*pair, INDEX)
    torch.testing.assert_close(found, plain * weight.double().at(INDEX).double())


def test_a_bimodal_loss_does_not_care_which_side_is_first(pair, tau):
    for make in (tt.InfoNCE, tt.MaxMargin, tt.DCL, tt.SigLIP):
        loss_fn = make(tau)
        there, back = loss_fn(*pair, INDEX), loss_fn(pair[1], pair[0], INDEX)
        assert float(there) == pytest.approx(float(back), rel=1e-9)


def test_state_survives_a_resume_in_the_middle_of_a_period(pair, tau):
    def build():
        return tt.InfoNCE(tt.Cosine(-0.02, 0.02, period=9) + tau, force="equalized")

    loss_fn = build()
    for _ in range(5):
        loss_fn(*pair, INDEX).item()
        loss_fn.step()
    fresh = build()
    fresh.load_state_dict(loss_fn.state_dict())
    for _ in range(5):
        assert float(fresh(*pair, INDEX)) == float(loss_fn(*pair, INDEX))
        fresh.step()
        loss_fn.step()
    assert fresh.steps == 10
