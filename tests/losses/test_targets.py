"""Targets that are spread over candidates, against explicit distributions in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import Keys
from tauten.relations import Codes, Given, Kernel, PairWeights, Teacher

N, D = 6, 5
INDEX = torch.tensor([5, 0, 3, 2, 2, 1])
TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243], 0.1, 0.5)
TILES = ["dense", (2, 3)]


def vectors(n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=generator, dtype=torch.float64)


def cosines(a, b):
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def soft(logits, weights, kept=None):
    """(n,) −Σ_j q_j·log p_j with q the weights of each row over their sum."""
    kept = torch.ones_like(weights, dtype=torch.bool) if kept is None else kept
    losses = []
    for row, weight, keep in zip(logits, weights, kept, strict=True):
        q = weight[keep] / weight[keep].sum()
        losses.append(-(q * row[keep].log_softmax(0)).sum())
    return torch.stack(losses)


def assert_equal(found, expected, inputs):
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    weight = torch.linspace(-1, 2, found.numel(), dtype=torch.float64).view_as(found)
    ours = torch.autograd.grad((found * weight).sum(), inputs, allow_unused=True)
    theirs = torch.autograd.grad((expected * weight).sum(), inputs, allow_unused=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.fixture
def pair():
    x = vectors()
    return x.requires_grad_(), (0.5 * x.detach() + vectors(seed=1)).requires_grad_()


U, V = vectors(seed=2), vectors(seed=3)
LABELS = torch.tensor([0.0, 1.0, 2.5, 2.5, 4.0, 7.0], dtype=torch.float64)
KINDS = torch.rand(3, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
ROWS, COLS = torch.tensor([0, 1, 2, 2, 0, 1]), torch.tensor([3, 0, 1, 2, 2, 3])
MATRIX = torch.rand(N, N, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
MATRIX[0, 1:4] = MATRIX[2:, 5] = 0.0

#: what is given, and the weights that it says
TARGETS = {
    "matrix": (MATRIX, MATRIX),
    "teacher": (Teacher(U, V, 0.01), (cosines(U, V) / 0.01).exp()),
    "products": (Teacher(U, V, 0.5, normalize=False), (U @ V.T / 0.5).exp()),
    "kernel": (Kernel(U, U), 0.5 + 0.5 * cosines(U, U)),
    "squares": (Kernel(U, V, lambda c: c.square()), cosines(U, V).square()),
    "codes": (Codes(KINDS, ROWS, COLS), KINDS[ROWS][:, COLS]),
    "rule": (
        PairWeights(LABELS, LABELS, lambda a, b: 1 / (1 + (a[:, None] - b).abs())),
        1 / (1 + (LABELS[:, None] - LABELS).abs()),
    ),
}


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_the_cross_entropy_of_an_explicit_distribution(pair, name, directions, tile):
    given, weights = TARGETS[name]
    tau, s = TAU.double().at(INDEX).double()[:, None], cosines(*pair)
    sides = {"x2y": soft(s / tau, weights), "y2x": soft(s.T / tau, weights.T)}
    expected = sides.get(directions, (sides["x2y"] + sides["y2x"]) / 2)
    loss_fn = tt.InfoNCE(TAU, directions=directions, reduction="none", tile=tile).double()
    assert_equal(loss_fn(*pair, INDEX, targets=given), expected, pair)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("labelled", [False, True])
def test_a_share_of_the_target_is_the_teachers(pair, labelled, tile):
    """ALBEF: y = α·softmax(S_m/τ) + (1 − α)·onehot, with a τ that is learned."""
    labels = torch.tensor([0, 1, 0, 2, 0, 1])
    relation = {"labels": labels} if labelled else {}
    own = (labels[:, None] == labels).double() if labelled else torch.eye(N).double()
    control = tt.Learnable(0.2, 0.01, 1.0).double()
    loss_fn = tt.InfoNCE(control, reduction="none", tile=tile).double()
    found = loss_fn(*pair, targets=Teacher(U, V, 0.1, share=0.4), **relation)
    s, teacher = cosines(*pair) / control.at(torch.arange(1)), cosines(U, V) / 0.1
    sides = [
        soft(logits, 0.4 * of_teacher.softmax(1) + 0.6 * F.normalize(own, p=1, dim=1))
        for logits, of_teacher in ((s, teacher), (s.T, teacher.T))
    ]
    assert_equal(found, (sides[0] + sides[1]) / 2, [*pair, control.parameter])


@pytest.mark.parametrize("tile", TILES)
def test_targets_of_lower_precision_are_taken_in_that_of_the_loss(pair, tile):
    """A teacher and a kernel in float32, of a loss in float64: to the digits of the latter."""
    u, v = U.float(), V.float()
    teacher = (cosines(u.double(), v.double()) / 0.1).exp()
    kernel = 0.5 + 0.5 * cosines(u.double(), v.double())
    loss_fn = tt.InfoNCE(0.2, directions="x2y", tile=tile).double()
    eye = torch.eye(N, dtype=torch.float64)
    soft_targets = [(Teacher(u, v, 0.1, share=0.4), teacher), (Kernel(u, v, share=0.4), kernel)]
    for given, weights in soft_targets:
        s, q = cosines(*pair) / 0.2, 0.4 * weights / weights.sum(1, keepdim=True) + 0.6 * eye
        assert_equal(loss_fn(*pair, targets=given), -(q * s.log_softmax(1)).sum(1).mean(), pair)


def test_no_share_is_the_loss_as_before(pair):
    plain = tt.InfoNCE(0.1)
    assert torch.equal(plain(*pair, targets=Teacher(U, V, share=0.0)), plain(*pair))


@pytest.mark.parametrize("tile", TILES)
def test_pairs_of_one_weight_are_infonce(pair, tile):
    loss_fn = tt.InfoNCE(TAU, tile=tile, reduction="none").double()
    eye = torch.eye(N, dtype=torch.float64)
    torch.testing.assert_close(loss_fn(*pair, INDEX, targets=eye), loss_fn(*pair, INDEX))


@pytest.mark.parametrize("tile", TILES)
def test_ignored_pairs_have_no_share(pair, tile):
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[1, [0, 2, 3]] = ignore[3, 5] = ignore[0, 4] = True
    same = torch.tensor([0, 1, 2, 3, 0, 4])
    kept = ~ignore & ((same[:, None] != same) | torch.eye(N, dtype=torch.bool))
    s, teacher = cosines(*pair) / 0.2, (cosines(U, V) / 0.005).exp()  # up to exp(400) apart
    expected = (soft(s, teacher, kept) + soft(s.T, teacher.T, kept.T)) / 2
    loss_fn = tt.InfoNCE(0.2, reduction="none", tile=tile)
    found = loss_fn(*pair, ignore=ignore, same=[same], targets=Teacher(U, V, 0.005))
    assert_equal(found, expected, pair)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    "given",
    [
        Teacher(U, V, 0.004),  # from exp(-200) to exp(200) in float32
        PairWeights(LABELS, LABELS, lambda a, b: 1e38 / (1 + (a[:, None] - b).abs())),
        PairWeights(LABELS, LABELS, lambda a, b: 1e-40 / (1 + (a[:, None] - b).abs()) ** 2),
    ],
    ids=["teacher", "large", "small"],
)
def test_sums_of_weights_may_leave_the_range_of_the_numbers(pair, given, tile):
    loss_fn = tt.InfoNCE(TAU, reduction="none", tile=tile)
    expected = loss_fn.double()(*pair, INDEX, targets=given)
    found = loss_fn.float()(*(side.float() for side in pair), INDEX, targets=given)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tile", TILES)
def test_prototypes_need_no_pairs(tile):
    """Soft assignments to prototypes, as SwAV's and PALM's: more rows than columns."""
    x, prototypes = vectors().requires_grad_(), vectors(4, seed=1).requires_grad_()
    q = MATRIX[:, :4] + 0.1
    expected = soft(cosines(x, prototypes) / 0.3, q)
    loss_fn = tt.InfoNCE(0.3, directions="x2y", reduction="none", tile=tile)
    assert_equal(loss_fn(x, prototypes, targets=q), expected, [x, prototypes])


@pytest.mark.parametrize("tile", TILES)
def test_one_set_needs_no_pairs(tile):
    z, kept = vectors().requires_grad_(), ~torch.eye(N, dtype=torch.bool)
    expected = soft(cosines(z, z) / 0.3, 0.5 + 0.5 * cosines(U, U), kept)
    loss_fn = tt.InfoNCE(0.3, reduction="none", tile=tile)
    assert_equal(loss_fn(z, targets=Kernel(U, U)), expected, [z])


@pytest.mark.parametrize("tile", TILES)
def test_the_temperature_of_a_pair_scales_its_own_logit(pair, tile):
    s = cosines(*pair)
    tau = 0.2 + 0.05 * (1 + torch.cos(torch.pi * (s.detach() - 1)))
    weights = TARGETS["kernel"][1]
    expected = (soft(s / tau, weights) + soft((s / tau).T, weights.T)) / 2
    loss_fn = tt.InfoNCE(tt.DySTreSS(0.2, 0.3), reduction="none", tile=tile).double()
    assert_equal(loss_fn(*pair, targets=Kernel(U, U)), expected, pair)


@pytest.mark.parametrize("tile", TILES)
def test_keys_are_the_teachers_embeddings(pair, tile):
    """Momentum distillation with a queue: both sides against keys, the teacher's own scores."""
    kx, ky, count = vectors(9, seed=7), vectors(9, seed=8), 9
    of_keys = Keys(kx, ky, torch.arange(count))
    found = tt.InfoNCE(0.2, reduction="none", tile=tile)(
        *pair, keys=of_keys, targets=Teacher(kx, ky, 0.3, share=0.4)
    )
    eye = torch.eye(N, count).double()
    sides = [
        soft(
            cosines(anchors, there) / 0.2,
            0.4 * (cosines(here[:N], there) / 0.3).softmax(1) + 0.6 * eye,
        )
        for anchors, here, there in ((pair[0], kx, ky), (pair[1], ky, kx))
    ]
    assert_equal(found, (sides[0] + sides[1]) / 2, pair)
    table = torch.rand(count, count, dtype=torch.float64) + 0.1
    given = tt.InfoNCE(0.2, reduction="none", tile=tile)(*pair, keys=of_keys, targets=table)
    sides = [
        soft(cosines(pair[0], ky) / 0.2, table[:N]),
        soft(cosines(pair[1], kx) / 0.2, table.T[:N]),
    ]
    assert_equal(given, (sides[0] + sides[1]) / 2, pair)


def test_cwcl_is_one_direction_soft_and_the_other_plain(pair):
    """Srinivasa et al. 2023: w_ij = ½⟨u_i, u_j⟩ + ½ for the anchors of the frozen modality."""
    s, w = cosines(*pair) / 0.1, 0.5 + 0.5 * cosines(U, U)
    log_p = s.log_softmax(1)
    expected = -((w * log_p).sum(1) / w.sum(1)).mean() + F.cross_entropy(s.T, torch.arange(N))
    one, other = (tt.InfoNCE(0.1, directions=d) for d in ("x2y", "y2x"))
    assert_equal(one(*pair, targets=Kernel(U, U)) + other(*pair), expected, pair)


def test_forces_are_the_excess_over_the_target(pair):
    weights = TARGETS["kernel"][1]
    found = tt.forces(tt.InfoNCE(0.3, directions="x2y"), *pair, targets=Kernel(U, U)).pairs
    q = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(found, ((cosines(*pair) / 0.3).softmax(1) - q).detach() / 0.3)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("make", [tt.InfoNCE, tt.DCL, tt.SupCon])
def test_weights_of_negatives_multiply_their_exponentials(pair, make, tile):
    """Label distances of SupReMix; cluster codes of MEOW, where 0 leaves a pair out."""
    runs = torch.tensor([[0, 0], [1, 0], [0, 1], [1, 1], [0, 0], [2, 1]])
    labels = torch.tensor([0, 1, 0, 2, 2, 1])
    for given, w in (
        (
            PairWeights(LABELS, LABELS, lambda a, b: (a[:, None] - b).abs() + 1),
            (LABELS[:, None] - LABELS).abs() + 1,
        ),
        (
            PairWeights(runs, runs, lambda a, b: 2.0 - (a[:, None] == b).sum(2)),
            2.0 - (runs[:, None] == runs).sum(2).double(),
        ),
    ):
        relation = {"labels": labels} if make is tt.SupCon else {}
        own = labels[:, None] == labels if relation else torch.eye(N, dtype=torch.bool)
        expected = 0
        for s in (cosines(*pair) / 0.3, cosines(*pair).T / 0.3):
            w_row = w if make is tt.DCL else w.where(~own, torch.ones_like(w))
            if make is tt.DCL:
                w_row = w.where(~own, torch.zeros_like(w))
            below = (w_row * s.exp()).sum(1).log()
            expected = expected + (below - (s * own).sum(1) / own.sum(1)) / 2
        loss_fn = make(0.3, reduction="none", tile=tile)
        assert_equal(loss_fn(*pair, repulsion=given, **relation), expected, pair)


X, Y, EVEN = vectors(4), vectors(4, seed=1), torch.tensor([0, 1, 0, 1])


class Mine(tt.InfoNCE):
    """A loss of one's own that does not say what it does with targets."""

    def anchor_losses(self, batch, directions):
        return [batch.positives(d) for d in directions]


@pytest.mark.filterwarnings("ignore::tauten.CompositionWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.DCL(0.1), "DCL takes no targets=: where every candidate is partly positive"),
        (lambda: tt.DCLW(0.1), "DCLW takes no targets="),
        (lambda: tt.SigLIP(0.1), "SigLIP takes no targets="),
        (lambda: tt.MaxMargin(0.1), "MaxMargin takes no targets="),
        (lambda: tt.SMS(0.1), "SMS takes no targets="),
        (lambda: tt.SogCLR(4, 0.1), "SogCLR takes no targets="),
        (lambda: tt.NUCLR(4), "NUCLR takes no targets="),
        (lambda: Mine(0.1), "Mine takes no targets=: it does not say that it uses them"),
        (lambda: tt.InfoNCE(0.1, label_smoothing=0.1), "label_smoothing=0.1 do not go together"),
        (lambda: tt.InfoNCE(0.1, margin=0.1), "margin=Constant.* do not go together"),
        (lambda: tt.InfoNCE(0.1, force="reweighted"), "'reweighted' do not go together"),
        (lambda: tt.InfoNCE(tt.Individual(4, 1.0)), "Individual.* do not go together"),
    ],
)
def test_what_targets_mean_nothing_to(make, message):
    with pytest.raises(ValueError, match=message):
        make()(X, Y, torch.arange(4), targets=torch.eye(4))


LOSS = tt.InfoNCE(0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LOSS(X, Y, targets=torch.ones(4, 3)), r"matrix \(4, 4\), got \(4, 3\)"),
        (lambda: LOSS(X, Y, targets=-torch.eye(4)), ">= 0, got -1"),
        (lambda: LOSS(X, Y, targets=torch.eye(4) * float("nan")), "finite and >= 0"),
        (lambda: LOSS(X, Y, targets="teacher"), "of tauten.relations"),
        (lambda: LOSS(X, Y, targets=torch.ones(4, 4).triu(1)), "give 1 anchors of x .*: rows 3"),
        (lambda: tt.SupCon(0.1)(X, Y, labels=EVEN, targets=torch.eye(4)), "its targets are its"),
        (lambda: LOSS(X, Y, targets=Kernel(X, X, lambda c: c - 2)), "below 0: rows 0, 1, 2, 3"),
        (lambda: LOSS(X, Y, targets=Teacher(X[:3], Y)), "4 rows of x and 4 of y, got 3 and 4"),
        (lambda: LOSS(X, targets=torch.eye(4)), "give 4 anchors of x no candidate"),
        (lambda: LOSS(X, targets=Teacher(X, X, share=0.5)), "needs labels= or positives="),
        (lambda: LOSS(X, Y[:3], targets=torch.ones(4, 3)), "use directions='x2y'"),
        (lambda: tt.InfoNCE(tt.MACL(0.1))(X, targets=torch.ones(4, 4)), "alone name none"),
        (lambda: LOSS(X, Y, targets=PairWeights(EVEN, EVEN, torch.add)), r"\(4, 4\), got \(4,\)"),
        (lambda: LOSS(X, Y, targets=Kernel(X, Y, of=lambda s: 1.0)), "got float"),
        (lambda: Teacher(X, Y, 0.0), "tau must be > 0"),
        (lambda: Teacher(X, Y, share=1.1), r"share must be in \[0, 1\]"),
        (lambda: Teacher(X, Y[:, :3]), "of one width"),
        (lambda: Codes(torch.ones(2, 2), torch.tensor([2]), torch.tensor([0])), r"in 0 .. 1"),
        (
            lambda: Codes(torch.ones(2, 2), EVEN > 0, EVEN > 0),
            "rows must be a vector of integers, the kind of each row, got torch.bool",
        ),
        (lambda: LOSS(X, Y, targets=torch.eye(4).to_sparse()), "must be dense, got torch.sparse_c"),
        (lambda: LOSS(X, Y, repulsion=torch.eye(4).to_sparse()), "pass its .to_dense()"),
        (lambda: LOSS(X, Y, ignore=torch.eye(4).bool().to_sparse()), "ignore must be dense"),
        (lambda: LOSS(X, Y, repulsion=Given(torch.ones(4, 4), share=0.5)), "share must be 1"),
        (lambda: tt.SigLIP(0.1)(X, Y, repulsion=torch.ones(4, 4)), "SigLIP takes no repulsion="),
        (lambda: tt.NUCLR(4)(X, Y, torch.arange(4), repulsion=torch.ones(4, 4)), "NUCLR's offsets"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("tile", ["dense", 2])
@pytest.mark.parametrize("loss", [tt.InfoNCE, tt.DCL])
def test_an_anchor_whose_negatives_all_weigh_nothing_has_no_part_in_the_gradient(loss, tile):
    x, y = X.detach().clone().requires_grad_(), Y.detach()
    weights = torch.ones(4, 4, dtype=x.dtype)
    weights[1] = 0.0
    loss_fn = loss(0.1, directions="x2y", tile=tile)
    (found,) = torch.autograd.grad(loss_fn(x, y, repulsion=weights), x)

    s = F.cosine_similarity(x[:, None], y[None], dim=2) / 0.1
    rows = torch.tensor([0, 2, 3])
    others = s[rows] if loss is tt.InfoNCE else s.masked_fill(torch.eye(4).bool(), -torch.inf)[rows]
    expected = (others.logsumexp(1) - s.diagonal()[rows]).sum() / 4
    (right,) = torch.autograd.grad(expected, x)
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
