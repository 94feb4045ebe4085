"""Contrast of samples with continuous labels and mixtures, against the formula in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from compared import check
from tauten.candidates import LabelMixer

LABELS = torch.tensor([1.0, 3.5, 0.0, 1.0, 3.5, 0.0, -2.0, -2.0], dtype=torch.float64)
TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243, 400, 600], 0.1, 0.5)
INDEX = torch.tensor([5, 0, 3, 2, 4, 1, 7, 6])
every_tile = pytest.mark.parametrize("tile", ["dense", (2, 3)])


@pytest.fixture
def z():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=generator, dtype=torch.float64).requires_grad_()


def mixed(z, **options):
    return LabelMixer(4, 3, **options)(z, LABELS, torch.Generator().manual_seed(1))


@every_tile
@pytest.mark.parametrize("weighted", [True, False])
def test_it_equals_the_formula(z, tile, weighted):
    mixtures, tau = mixed(z), TAU.double().at(INDEX).double()
    units, expected = F.normalize(z, dim=1), 0
    for i in range(8):
        s = units @ units[i]
        v = F.normalize(mixtures.vectors[i], dim=1) @ units[i]
        others = [a for a in range(8) if a != i]
        w = (LABELS - LABELS[i]).abs() * weighted + 1
        w_mixed = (mixtures.labels[i] - LABELS[i]).abs() * weighted + 1
        there = ~mixtures.missing[i]
        below = (w * (s / tau[i]).exp())[others].sum()
        below = below + (w_mixed * (v / tau[i]).exp())[there].sum()
        positives = [s[a] for a in others if LABELS[a] == LABELS[i]]
        positives += [*v[there & mixtures.positive]]
        for p in positives:
            expected = expected - (p / tau[i] - below.log()) / len(positives) / 8
    loss_fn = tt.SupReMix(TAU, weighted=weighted, tile=tile).double()
    check(loss_fn(z, LABELS, mixtures, INDEX), expected, [z])


@every_tile
def test_without_mixtures_and_weights_it_is_supcon(z, tile):
    found = tt.SupReMix(TAU, weighted=False, tile=tile).double()(z, LABELS, index=INDEX)
    codes = LABELS.unique(return_inverse=True)[1]
    plain = tt.SupCon(TAU, directions="x2y", tile=tile).double()
    check(found, plain(z, None, INDEX, labels=codes), [z])


def test_the_label_of_a_positive_mixture_is_the_anchors(z):
    mixtures = mixed(z)
    own = LABELS[:, None].expand_as(mixtures.labels)
    there = ~mixtures.missing & mixtures.positive
    torch.testing.assert_close(mixtures.labels[there], own[there])
    # the largest and the least label have nothing on one side
    assert mixtures.missing[:, 4:].all(1).tolist() == [y in (3.5, -2.0) for y in LABELS.tolist()]
    assert not bool(mixtures.missing[:, :4].any())
    assert bool((mixtures.labels[:, :4] != own[:, :4]).all())


def test_mixtures_lie_between_two_samples_by_their_labels(z):
    mixtures = mixed(z, window=2.5)
    units = F.normalize(z.detach(), dim=1)
    for i in range(8):
        for v in range(4, 7):
            if mixtures.missing[i, v]:
                continue
            told = []
            for j in range(8):
                for k in range(8):
                    inside = max(abs(LABELS[j] - LABELS[i]), abs(LABELS[k] - LABELS[i])) <= 2.5
                    if LABELS[j] < LABELS[i] < LABELS[k] and inside:
                        share = (LABELS[k] - LABELS[i]) / (LABELS[k] - LABELS[j])
                        told.append(share * units[j] + (1 - share) * units[k])
            assert min(float((mixtures.vectors[i, v] - m).norm()) for m in told) < 1e-9
    assert bool(mixtures.missing[[0, 3], 4:].logical_not().all())
    assert mixtures.vectors.requires_grad is False


def test_a_mixture_with_the_anchor_is_nearer_than_what_it_is_mixed_of(z):
    mixtures = mixed(z, beta=(2.0, 8.0))
    units = F.normalize(z.detach(), dim=1)
    share = (F.normalize(mixtures.vectors, dim=2) * units[:, None]).sum(2)[:, :4]
    assert float(share.mean()) > float((units @ units.T).fill_diagonal_(0).mean())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda z: LabelMixer(0, 0), "negatives or positives above 0"),
        (lambda z: LabelMixer(window=0), "window must be > 0, got 0"),
        (lambda z: LabelMixer(beta=(2.0, 0.0)), "two numbers > 0"),
        (lambda z: LabelMixer()(z, LABELS[:3]), r"labels must be \(8,\) finite"),
        (lambda z: tt.SupReMix(0.1)(z, LABELS[:3]), r"labels must be \(8,\) finite"),
        (lambda z: tt.SupReMix(0.1)(z, LABELS.tolist()), r"labels must be \(8,\) finite"),
        (lambda z: tt.SupReMix(0.1)(z, LABELS + 1j), r"\(8,\) finite numbers, .* torch.complex"),
        (
            lambda z: tt.SupReMix(0.1)(z, torch.arange(8.0) / torch.tensor([1.0, 0] * 4)),
            "labels are NaN or infinite in rows 1, 3, 5, 7: leave",
        ),
        (lambda z: tt.SupReMix(0.1)(z, torch.arange(8.0)), "labels 0.0, 1.0, .* have no positive"),
        (
            lambda z: tt.SupReMix(0.1)(z, torch.arange(8.0), mixed(z)),
            "labels 0.0, 1.0, .* have no positive",
        ),
        (lambda z: tt.SupReMix(tt.DySTreSS()), "labels give several"),
    ],
)
def test_what_does_not_fit_is_refused(z, make, said):
    with pytest.raises(ValueError, match=said):
        make(z)
