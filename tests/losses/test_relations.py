"""Who is positive, candidate or neither, against loops over pairs that say it literally."""

import math

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

TILES = ["dense", (2, 3)]
TAU = 0.3


def vectors(n, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64)


def one_direction(kind, s, positive, candidate, tau=TAU):
    """The loss of each row that has a positive, by loops over Python floats.

    Args:
        s: (N, M) similarities.
        positive: (N, M) bool.
        candidate: (N, M) bool, the pairs that are used at all, positives among them.
    """
    out = []
    for i in range(len(s)):
        logits = [float(v) / tau for v in s[i]]
        own = [j for j in range(len(logits)) if positive[i][j]]
        others = [j for j in range(len(logits)) if candidate[i][j] and not positive[i][j]]
        if not own:
            continue
        mean = sum(logits[j] for j in own) / len(own)
        if kind == "logsum":
            mean = math.log(sum(math.exp(logits[j]) for j in own))
        if kind == "SigLIP":
            pairs = [(1, j) for j in own] + [(-1, j) for j in others]
            out.append(sum(math.log1p(math.exp(-z * (logits[j] - 2.0))) for z, j in pairs))
            continue
        below = others if kind == "DCL" else own + others
        out.append(math.log(sum(math.exp(logits[j]) for j in below)) - mean if below else 0.0)
    return out


def literal(kind, x, y, positive, candidate, directions):
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    sides = []
    if directions != "y2x":
        sides.append(one_direction(kind, s, positive, candidate))
    if directions != "x2y":
        sides.append(one_direction(kind, s.T, positive.T, candidate.T))
    return sum(sum(side) / len(side) for side in sides) / len(sides)


def make(kind, **options):
    if kind == "logsum":
        return tt.InfoNCE(TAU, positives="logsum", **options)
    return (
        tt.SigLIP(TAU, -2.0, **options) if kind == "SigLIP" else getattr(tt, kind)(TAU, **options)
    )


def supcon(z, labels, tau):
    """Khosla et al. 2020, equation 2, anchor by anchor."""
    z, total = F.normalize(z, dim=1), 0.0
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        same = [p for p in others if labels[p] == labels[i]]
        below = sum(math.exp(float(z[i] @ z[a]) / tau) for a in others)
        logs = [math.log(math.exp(float(z[i] @ z[p]) / tau) / below) for p in same]
        total += -sum(logs) / len(same)
    return total / len(z)


LABELS = torch.tensor([0, 1, 2, 0, 0, 1, 2, 0])


@pytest.mark.parametrize("tile", TILES)
def test_supcon_of_one_set_is_the_published_formula(tile):
    z = vectors(8)
    found = tt.SupCon(0.07, tile=tile)(z, labels=LABELS)
    assert float(found) == pytest.approx(supcon(z, LABELS.tolist(), 0.07), rel=1e-6)
    plain = tt.InfoNCE(0.07, directions="x2y", tile=tile)
    eye = torch.eye(8, dtype=torch.bool)
    torch.testing.assert_close(plain(z, z, labels=LABELS, ignore=eye), found)
    torch.testing.assert_close(plain(z, labels=LABELS), found)


@pytest.mark.parametrize("tile", TILES)
def test_supcon_of_two_modalities_is_the_published_formula_of_each_side(tile):
    x, y = vectors(8), vectors(8, seed=1)
    positive = LABELS[:, None] == LABELS
    expected = literal("InfoNCE", x, y, positive, torch.ones(8, 8, dtype=torch.bool), "both")
    assert float(tt.SupCon(TAU, tile=tile)(x, y, labels=LABELS)) == pytest.approx(expected)


def test_supcon_of_a_collapsed_batch_is_the_log_of_the_others():
    z = torch.ones(24, 3, dtype=torch.float64)
    found = tt.SupCon(0.1)(z, labels=torch.arange(24) % 6)
    assert float(found) == pytest.approx(math.log(23), abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("kind", ["InfoNCE", "DCL", "SigLIP", "logsum"])
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
@pytest.mark.parametrize("masked", ["ignore", "same", "neither"])
@pytest.mark.parametrize("shape", [(8, 8), (8, 3), (3, 8)], ids=str)
def test_labels_of_sides_of_any_length(shape, masked, directions, kind, tile):
    x, y = vectors(shape[0]), vectors(shape[1], seed=1)
    labels = LABELS[: shape[0]], LABELS[: shape[1]]
    positive = labels[0][:, None] == labels[1]
    candidate, options = torch.ones(shape, dtype=torch.bool), {}
    if masked == "ignore":
        ignore = torch.zeros(shape, dtype=torch.bool)
        ignore[0, 1] = ignore[2, 0] = True
        if shape == (8, 8):
            ignore[0, 3] = True  # a positive among others
        candidate, options = ~ignore, {"ignore": ignore}
        positive = positive & candidate
    elif masked == "same":
        ids = torch.arange(shape[0]) % 3, (torch.arange(shape[1]) + 1) % 3
        candidate = (ids[0][:, None] != ids[1]) | positive
        options = {"same": [ids]}
    expected = literal(kind, x, y, positive, candidate, directions)
    x.requires_grad_()
    loss_fn = make(kind, directions=directions, tile=tile)
    found = loss_fn(x, y, labels=labels, **options)
    assert float(found.detach()) == pytest.approx(expected, rel=1e-6)
    found.backward()
    assert torch.autograd.gradcheck(
        lambda z: loss_fn(z, y, labels=labels, **options), x, eps=1e-6, atol=1e-6, fast_mode=True
    )


@pytest.mark.parametrize("kind", ["InfoNCE", "DCL", "SigLIP"])
@pytest.mark.parametrize("directions", ["both", "x2y"])
def test_prototypes_that_no_sample_has_are_candidates_alone(kind, directions):
    x, prototypes = vectors(5), vectors(7, seed=1)
    labels = torch.tensor([0, 1, 2, 0, 1]), torch.arange(7)
    positive = labels[0][:, None] == labels[1]
    candidate = torch.ones(5, 7, dtype=torch.bool)
    expected = literal(kind, x, prototypes, positive, candidate, directions)
    found = make(kind, directions=directions)(x, prototypes, labels=labels)
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_images_against_prototypes_are_cross_entropy():
    x, y, labels = vectors(6), vectors(3, seed=1), torch.tensor([0, 1, 2, 0, 1, 1])
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / TAU
    found = tt.InfoNCE(TAU, directions="x2y")(x, y, labels=(labels, torch.arange(3)))
    assert float(found) == pytest.approx(float(F.cross_entropy(s, labels)), rel=1e-6)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("kind", ["InfoNCE", "DCL", "SigLIP"])
@pytest.mark.parametrize("given", ["order", "positives"])
def test_further_candidates_in_both_directions(kind, given, tile):
    x, y = vectors(4), vectors(7, seed=1)
    place = torch.arange(4) if given == "order" else torch.tensor([5, 0, 6, 2])
    positive = F.one_hot(place, 7).bool()
    expected = literal(kind, x, y, positive, torch.ones(4, 7, dtype=torch.bool), "both")
    options = {} if given == "order" else {"positives": place}
    found = make(kind, tile=tile)(x, y, **options)
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_hinges_with_further_candidates_in_both_directions(tile):
    x, y = vectors(3), vectors(5, seed=1)
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    rows = sum(max(0.0, 0.4 - s[i, i] + s[i, j]) for i in range(3) for j in range(5) if i != j)
    cols = sum(max(0.0, 0.4 - s[i, i] + s[j, i]) for i in range(3) for j in range(3) if i != j)
    expected = (float(rows) / 4 + float(cols) / 2) / 2 / 3
    assert float(tt.MaxMargin(0.4, tile=tile)(x, y)) == pytest.approx(expected, rel=1e-6)


def test_columns_that_are_no_anchors_leave_no_trace_in_tables_and_means():
    x, y, ids = vectors(3), vectors(5, seed=1), (torch.arange(3), torch.arange(5))
    sogclr = tt.SogCLR((3, 5), 0.2, gamma=0.5)
    with pytest.warns(tt.CompositionWarning, match="further candidates"):
        sogclr(x, y, ids)
    sogclr.step()
    assert sogclr.tables["y2x"].visits.tolist() == [1, 1, 1, 0, 0]
    tau = tt.ClusterShift(([1] * 3, [1, 2, 3, 90, 99]), 0.1, 0.5)
    equalized = tt.InfoNCE(tau, force="equalized")
    equalized(x, y, ids)
    equalized.step()
    mean = torch.cat([tau.side(ids[0], "x2y"), tau.side(ids[1][:3], "y2x")]).mean()
    torch.testing.assert_close(equalized.running.mean, mean)


@pytest.mark.parametrize("tile", TILES)
def test_one_set_with_named_positives_is_nt_xent(tile):
    z, other = vectors(8), (torch.arange(8) + 4) % 8
    s = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T / TAU
    expected = F.cross_entropy(s.fill_diagonal_(-math.inf), other)
    found = tt.InfoNCE(TAU, tile=tile)(z, positives=other)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_two_views_of_sogclr_are_one_set():
    a, b, ids = vectors(4), vectors(4, seed=1), torch.tensor([3, 0, 2, 1])
    there, here = (tt.SogCLR(4, 0.2, directions="x2y").double() for _ in range(2))
    z, other = torch.cat([a, b]), (torch.arange(8) + 4) % 8
    found = here(z, index=ids.repeat(2), positives=other)
    torch.testing.assert_close(found, there.two_views(a, b, ids))
    here.step(), there.step()
    torch.testing.assert_close(here.tables["x2y"].values, there.tables["x2y"].values)


@pytest.mark.parametrize("kind", ["InfoNCE", "DCL", "SigLIP", "SupCon", "logsum"])
@pytest.mark.parametrize("tile", TILES)
def test_gradcheck_of_one_set(kind, tile):
    loss_fn, ignore = make(kind, tile=tile), torch.zeros(8, 8, dtype=torch.bool)
    ignore[0, 3] = True
    for options in ({}, {"ignore": ignore}):
        assert torch.autograd.gradcheck(
            lambda z, options=options: loss_fn(z, labels=LABELS, **options),
            vectors(8).requires_grad_(),
            eps=1e-6,
            atol=1e-6,
        )


def test_forces_of_one_set_leave_samples_themselves_alone():
    z = vectors(8)
    found = tt.forces(tt.SupCon(TAU), z, labels=LABELS).pairs
    assert bool((found.diagonal() == 0).all())
    positive = (LABELS[:, None] == LABELS) & ~torch.eye(8, dtype=torch.bool)
    s = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T / TAU
    p = s.masked_fill(torch.eye(8, dtype=torch.bool), -math.inf).softmax(1)
    torch.testing.assert_close(found, (p - positive / positive.sum(1, keepdim=True)) / TAU)


EYE = torch.eye(4, dtype=torch.bool)
Z, IDS = vectors(4), torch.arange(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tt.InfoNCE(0.1)(Z), "needs labels= or positives="),
        (lambda: tt.SupCon(0.1)(Z, Z.clone()), "SupCon needs labels="),
        (lambda: tt.SupCon(0.1)(Z, labels=IDS.clamp(max=2)), r"labels \[0, 1\] of x .* but itself"),
        (lambda: tt.SupCon(0.1)(Z, Z, labels=IDS // 2), "x and y are one tensor"),
        (lambda: tt.DCL(0.1)(Z, Z.detach(), labels=IDS // 2), "x and y are one tensor"),
        (lambda: tt.InfoNCE(0.1)(Z, positives=IDS), "rows 0, 1, 2, 3 are their own positive"),
        (lambda: tt.InfoNCE(0.1, directions="y2x")(Z, positives=IDS.roll(1)), "no direction y2x"),
        (lambda: tt.InfoNCE(0.1)(Z, Z.clone(), labels=IDS, ignore=EYE), "that ignore= leaves"),
        (lambda: tt.SogCLR(4, 0.1)(Z, index=IDS, positives=IDS.roll(1)), "two sides"),
        (lambda: tt.InfoNCE(tt.TaU(4))(Z, positives=IDS.roll(1)), "two sides"),
        (lambda: tt.InfoNCE(0.1, directions="y2x")(Z[:2], Z), "nobody's candidate either"),
        (
            lambda: tt.InfoNCE(0.1, reduction="none")(Z, Z[:2], labels=(IDS % 2, IDS[:2])),
            "make no pairs",
        ),
        (lambda: tt.SupCon(tt.Individual(4)), "several"),
        (lambda: tt.SupCon(0.1, positives="decoupled"), "DecoupledSoftmax is for positives"),
        (lambda: tt.SupCon(0.1, positives="logsum", label_smoothing=0.1), "use one of them"),
        (lambda: tt.InfoNCE(0.1, positives="logsum", force="reweighted"), "has no place"),
        (
            lambda: tt.InfoNCE(0.1, positives="logsum")(Z, Z.clone(), targets=torch.ones(4, 4)),
            "do not go together",
        ),
        (lambda: tt.SupCon(tt.DySTreSS()), "several"),
        (lambda: tt.InfoNCE(0.1)(Z, Z.clone(), same=[(IDS, IDS, IDS)]), "one for each side, got 3"),
        (lambda: tt.NUCLR(4, directions="x2y")(Z, Z.clone(), IDS, labels=IDS), "NUCLR's offsets"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("n", "m"), [(3, 5), (4, 5), (4, 7)])
def test_a_row_without_positives_may_be_a_candidate_of_columns(n, m):
    x, y = vectors(n), vectors(m, seed=1)
    labels = torch.arange(n), torch.arange(m) % (n - 1)
    positive = labels[0][:, None] == labels[1]
    expected = literal("InfoNCE", x, y, positive, torch.ones(n, m, dtype=torch.bool), "y2x")
    found = tt.InfoNCE(TAU, directions="y2x")(x, y, labels=labels)
    assert float(found) == pytest.approx(expected, rel=1e-6)
