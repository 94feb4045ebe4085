"""Terms equal the papers' formulas in float64, in value and gradient."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from forks import run_all
from tauten import terms

X = torch.randn(7, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def distances(a, b):
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    return (a[:, None] - b[None]).square().sum(2)


def off_diagonal(matrix):
    return matrix[~torch.eye(len(matrix), dtype=torch.bool)]


def barlow(x, y):
    """The loss of Barlow Twins, by batch normalisation without affine weights."""
    first, second = (F.batch_norm(side, None, None, training=True) for side in (x, y))
    squared = (first.T @ second / len(x) - torch.eye(x.shape[1])).square()
    return squared.trace() + 5e-3 * off_diagonal(squared).sum()


ORACLES = {
    "correlation": (terms.CrossCorrelation(), barlow, 2),
    "uniformity": (
        terms.Uniformity(2.0),
        lambda x, y: off_diagonal((-2 * distances(x, x)).exp()).mean().log(),
        1,
    ),
    "uniformity, sharp": (
        terms.Uniformity(40.0),
        lambda x, y: off_diagonal((-40 * distances(x, x)).exp()).mean().log(),
        1,
    ),
    "cross": (
        terms.CrossUniformity(3.0),
        lambda x, y: off_diagonal((-3 * distances(x, y)).exp()).mean().log(),
        2,
    ),
    "alignment": (terms.Alignment(), lambda x, y: distances(x, y).diagonal().mean(), 2),
    "alignment, alpha 1": (
        terms.Alignment(1.0),
        lambda x, y: distances(x, y).diagonal().sqrt().mean(),
        2,
    ),
    "koleo": (
        terms.KoLeo(eps=0.0),
        lambda x, y: (
            -(
                (distances(x, x) + 99 * torch.eye(len(x), dtype=x.dtype)).min(1).values.sqrt().log()
            ).mean()
        ),
        1,
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_value_and_gradient_are_those_of_the_formula(name):
    term, formula, sides = ORACLES[name]
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    given = (x, y)[:sides]
    value, expected = term(*given), formula(x, y)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    found = torch.autograd.grad(value, given)
    told = torch.autograd.grad(expected, given)
    torch.testing.assert_close(found, told, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("name", ORACLES)
def test_gradcheck(name):
    term, _, sides = ORACLES[name]
    given = tuple(v.clone().requires_grad_() for v in (X, Y)[:sides])
    assert torch.autograd.gradcheck(term, given)


def test_uniformity_of_opposite_points_and_of_one_point():
    two = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert float(terms.Uniformity(2.0)(two)) == pytest.approx(-8.0)
    assert float(terms.Uniformity(2.0)(two[:1].repeat(5, 1))) == pytest.approx(0.0, abs=1e-6)


def test_koleo_of_a_square_and_of_equal_rows():
    square = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    assert float(terms.KoLeo()(square)) == pytest.approx(-math.log(math.sqrt(2)), abs=1e-6)
    equal = torch.ones(3, 2, requires_grad=True)
    value = terms.KoLeo(eps=1e-4)(equal)
    value.backward()
    assert float(value) == pytest.approx(-math.log(1e-4), rel=1e-4)
    assert torch.equal(equal.grad, torch.zeros_like(equal))


def test_koleo_alone_raises_the_effective_rank_of_a_collapsed_batch():
    generator = torch.Generator().manual_seed(0)
    x = torch.ones(64, 8) + 0.05 * torch.randn(64, 8, generator=generator)
    before = _effective_rank(x)
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        terms.KoLeo()(x).backward()
        optimizer.step()
    assert _effective_rank(x.detach()) > 2 * before


def _effective_rank(x):
    share = torch.linalg.svdvals(F.normalize(x, dim=1))
    share = share / share.sum()
    return float((-(share * share.log()).sum()).exp())


def test_a_constraint_has_the_gradient_of_the_squared_excess():
    losses = torch.tensor([1.5, 0.5, 2.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    term = terms.Constraint(reference.tolist(), beta=3.0, gamma=1.0)
    (found,) = torch.autograd.grad(term(losses), losses)
    (told,) = torch.autograd.grad(1.5 * (losses - reference).clamp(min=0).square().sum(), losses)
    torch.testing.assert_close(found, told)


def test_a_constraint_averages_the_excess_of_the_groups_it_meets():
    term = terms.Constraint([1.0, 1.0], beta=2.0, gamma=0.25)
    term(torch.tensor([3.0, math.nan], dtype=torch.float64))
    value = term(torch.tensor([2.0, 5.0], dtype=torch.float64))
    # excess 0.75·2 + 0.25·1 = 1.75 of the first, 4 of the second
    assert float(value) == pytest.approx(2 * (1.75 * 2 + 4 * 5))
    assert term.excess.tolist() == pytest.approx([1.75, 4.0])
    assert float(term.eval()(torch.tensor([9.0, 9.0]))) != pytest.approx(float(value))
    assert term.excess.tolist() == pytest.approx([1.75, 4.0])


QUERIES = torch.tensor([[0, 1, 2], [3, 1, 6], [5, 5, 0], [4, 2, 3]])
LEVELS = torch.tensor([0.0, 1.0, 0.3, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("levels", [None, LEVELS])
def test_triplet_queries_are_hinges_of_both_that_are_alike(squared, levels):
    z = X.clone().requires_grad_()
    value = terms.TripletQueries(0.5, squared=squared)(z, QUERIES, levels)
    expected = 0
    margins = [0.5] * 4 if levels is None else levels
    for (a, b, odd), level in zip(QUERIES.tolist(), margins, strict=True):
        power = 2 if squared else 1

        def d(i, j, power=power):
            return (z[i] - z[j]).norm() ** power if i != j else 0.0

        for one in (a, b):
            expected = expected + (d(a, b) - d(one, odd) + level).clamp(min=0) / len(QUERIES)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    found, told = (torch.autograd.grad(loss, z, retain_graph=True) for loss in (value, expected))
    torch.testing.assert_close(found, told, rtol=1e-9, atol=1e-12)


def test_the_margin_of_a_query_follows_a_schedule():
    margin = tt.Anneal(0.0, 2.0, steps=4)
    term, ids = terms.TripletQueries(), torch.arange(4)
    values = [float(term(X, QUERIES, margin.at(ids, step))) for step in (0, 2, 4)]
    told = [float(terms.TripletQueries(level)(X, QUERIES)) for level in (0.0, 1.0, 2.0)]
    assert values == pytest.approx(told)
    assert values[0] < values[1] < values[2]


def test_prototypes_keep_queries_and_stay_as_far_apart_as_they_are():
    """ST-SSDL: MAE + λ_c·hinge + λ_d·deviation, of which the encoder has the MAE's gradient."""
    queries, history, prototypes = (v.clone().requires_grad_() for v in (X, Y, X[:4] + Y[3:]))
    margin = torch.linspace(0.1, 1.5, 7, dtype=torch.float64)
    hinge = terms.PrototypeHinge()(queries, prototypes, margin)
    apart = terms.Deviation()(queries, history, prototypes)
    mae = (queries - history).abs().mean()

    def two(q):
        return prototypes[sorted(range(4), key=lambda k: -float(q @ prototypes[k]))[:2]]

    told = told_apart = 0
    for q, a, m in zip(queries.detach(), history.detach(), margin.tolist(), strict=True):
        (first, second), past = two(q), two(a)[0]
        told = told + ((q - first).norm() - (q - second).norm() + m).clamp(min=0) / 7
        told_apart = told_apart + ((q - a).abs().sum() - (first - past).abs().sum()).abs() / 7
    torch.testing.assert_close((hinge, apart), (told, told_apart), rtol=1e-9, atol=1e-12)
    found = torch.autograd.grad(mae + 0.3 * hinge + 0.7 * apart, [queries, prototypes])
    (of_mae,) = torch.autograd.grad((queries - history).abs().mean(), queries)
    (of_terms,) = torch.autograd.grad(0.3 * told + 0.7 * told_apart, prototypes)
    torch.testing.assert_close(found, (of_mae, of_terms), rtol=1e-9, atol=1e-12)


def test_a_series_is_forecast_with_prototypes_of_a_margin_that_grows():
    """ST-SSDL on two patterns of a day: each gets a prototype of its own."""
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(12) * torch.pi / 6
    shapes = torch.stack([time.sin(), (2 * time).cos()])
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Linear(12, 4), torch.nn.Linear(4, 12)
    prototypes = torch.nn.Parameter(torch.randn(4, 4))
    margin = tt.Anneal(0.1, 0.5, steps=100)
    parameters = [*encoder.parameters(), *decoder.parameters(), prototypes]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    hinge, deviation, errors = terms.PrototypeHinge(), terms.Deviation(), []
    for step in range(100):
        kind = torch.randint(0, 2, (32,), generator=generator)
        now, past = (shapes[kind] + 0.1 * torch.randn(32, 12, generator=generator) for _ in "ab")
        q, a = encoder(now), encoder(past)
        optimizer.zero_grad()
        errors.append((decoder(q) - shapes[kind]).abs().mean())
        level = margin.at(torch.arange(32), step)
        loss = errors[-1] + 0.1 * hinge(q, prototypes, level) + 0.1 * deviation(q, a, prototypes)
        loss.backward()
        optimizer.step()
    assert float(errors[-1]) < 0.3 * float(errors[0])
    nearest = [int((encoder(shape) @ prototypes.T).argmax()) for shape in shapes]
    assert nearest[0] != nearest[1]


@pytest.mark.parametrize("form", ["contrastive", "multi-similarity"])
def test_mixtures_have_mixed_labels(form):
    """Metrix: σ⁺(Σ λ·ρ⁺) + σ⁻(Σ (1 − λ)·ρ⁻), of which λ in {0, 1} is the clean loss."""
    options = {}
    if form == "multi-similarity":
        options = {
            "pull": lambda d: (2 * (d - 0.5)).exp(),
            "push": lambda d: (-9 * (d - 0.5)).exp(),
            "outer_pull": lambda total: total.log1p() / 2,
            "outer_push": lambda total: total.log1p() / 9,
        }
    term = terms.MixedPairs(0.7, **options)
    a, others = X.clone().requires_grad_(), torch.stack([X.roll(k, 0) + Y for k in range(6)], 1)
    positives, negatives = (part.clone().requires_grad_() for part in others.split(3, dim=1))
    v, share = terms.mixtures(positives, negatives, generator=torch.Generator().manual_seed(0))
    mixed = share[..., None] * positives + (1 - share[..., None]) * negatives
    torch.testing.assert_close(v, mixed)

    def formula(vectors, y):
        d = (F.normalize(a, dim=1)[:, None] - F.normalize(vectors, dim=2)).norm(dim=2)
        if form == "contrastive":
            return (y * d + (1 - y) * (0.7 - d).clamp(min=0)).sum(1).mean()
        pull, push = (2 * (d - 0.5)).exp(), (-9 * (d - 0.5)).exp()
        return ((y * pull).sum(1).log1p() / 2 + ((1 - y) * push).sum(1).log1p() / 9).mean()

    def clean():
        d = (F.normalize(a, dim=1)[:, None] - F.normalize(others, dim=2)).norm(dim=2)
        near, far = d[:, :3], d[:, 3:]
        if form == "contrastive":
            return (near.sum(1) + (0.7 - far).clamp(min=0).sum(1)).mean()
        return (
            (2 * (near - 0.5)).exp().sum(1).log1p() / 2
            + (-9 * (far - 0.5)).exp().sum(1).log1p() / 9
        ).mean()

    def same(value, expected, given):
        torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
        found, told = (torch.autograd.grad(f, given, retain_graph=True) for f in (value, expected))
        torch.testing.assert_close(found, told, rtol=1e-8, atol=1e-11)

    same(term(a, v, share), formula(mixed, share), [a, positives, negatives])
    ends = torch.cat([torch.ones(7, 3), torch.zeros(7, 3)], dim=1)
    same(term(a, others, ends), clean(), [a])


def test_the_shares_of_mixtures_are_beta_distributed():
    ones = torch.ones(2000, 2)
    share = terms.mixtures(ones, ones, generator=torch.Generator().manual_seed(0))[1]
    assert float(share.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(share.var()) == pytest.approx(0.05, abs=0.005)  # 1/(4(2b + 1)), b = 2


def test_pixels_of_crops_lie_where_they_are_in_the_picture():
    """Crops of a grid of squares, one of them flipped: pixel by pixel in the picture."""
    boxes = torch.tensor([[0.0, 0.0, 6.0, 4.0], [7.0, 1.0, 1.0, 5.0]])
    centres, diagonal = terms.pixel_centres(boxes, 2, 3)
    told = [[(1, 1), (3, 1), (5, 1), (1, 3), (3, 3), (5, 3)]]
    told.append([(6, 2), (4, 2), (2, 2), (6, 4), (4, 4), (2, 4)])  # right to left
    assert centres.tolist() == [[list(map(float, xy)) for xy in row] for row in told]
    assert diagonal.tolist() == pytest.approx([8**0.5, 8**0.5])
    term = terms.PixelConsistency(0.7)
    crops = (centres[:1], diagonal[:1]), (centres[1:], diagonal[1:])
    (together,) = term.pairs(*crops)
    for i, (x, y) in enumerate(told[0]):
        for j, (u, v) in enumerate(told[1]):
            assert bool(together[i, j]) == (((x - u) ** 2 + (y - v) ** 2) ** 0.5 < 0.7 * 8**0.5)


def test_the_flip_of_a_crop_does_not_move_its_pixels():
    """The same crop, and the same flipped: pixel i is the mirrored one, and no other pairs."""
    boxes = torch.tensor([[0.1, 0.2, 0.7, 0.8]])
    flips = {"across": boxes[:, [2, 1, 0, 3]], "down": boxes[:, [0, 3, 2, 1]]}
    places = torch.arange(12).view(3, 4)
    mirrored = {"across": places.flip(1), "down": places.flip(0)}
    for name, box in flips.items():
        first, second = terms.pixel_centres(boxes, 3, 4), terms.pixel_centres(box, 3, 4)
        torch.testing.assert_close(second[0][0], first[0][0, mirrored[name].flatten()])
        (together,) = terms.PixelConsistency(0.1).pairs(first, second)
        assert together.nonzero().tolist() == [
            [i, int(j)] for i, j in enumerate(mirrored[name].flatten())
        ]


def test_pixpro_equals_the_formula():
    generator = torch.Generator().manual_seed(0)
    x, x_other, slow, slow_other = torch.randn(
        4, 2, 6, 3, generator=generator, dtype=torch.float64
    ).unbind(0)
    x, x_other = x.requires_grad_(), x_other.requires_grad_()
    transform = torch.nn.Linear(3, 3).double()
    boxes = torch.tensor([[0.0, 0.0, 6.0, 4.0], [0.0, 0.0, 9.0, 9.0]], dtype=torch.float64)
    other = torch.tensor([[7.0, 1.0, 1.0, 5.0], [50.0, 50.0, 59.0, 59.0]], dtype=torch.float64)
    places = [terms.pixel_centres(box, 2, 3) for box in (boxes, other)]
    propagate = terms.PixelPropagation(transform)
    value = terms.PixelConsistency()(
        (propagate(x), propagate(x_other)), (slow, slow_other), tuple(places)
    )

    def cosine(a, b):
        return (a @ b) / (a.norm() * b.norm())

    def spread(pixels):
        return [sum(cosine(p, q).clamp(min=0) ** 2 * transform(q) for q in pixels) for p in pixels]

    expected = 0
    for b in range(2):
        y, y_other = spread(x[b]), spread(x_other[b])
        (p, one), (q, two) = ((centres[b], size[b]) for centres, size in places)
        near = [
            (i, j)
            for i in range(6)
            for j in range(6)
            if (p[i] - q[j]).norm() / torch.maximum(one, two) < 0.7
        ]
        for i, j in near:
            pulls = cosine(y[i], slow_other[b, j]) + cosine(y_other[j], slow[b, i])
            expected = expected - pulls / len(near) / 2
        assert bool(near) == (b == 0)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    given = [x, x_other, *transform.parameters()]
    found, told = (torch.autograd.grad(f, given, retain_graph=True) for f in (value, expected))
    torch.testing.assert_close(found, told, rtol=1e-8, atol=1e-11)


def test_uniformity_leaves_pairs_of_one_id_out():
    ids = torch.tensor([0, 1, 0, 2, 1, 0, 3])
    x = X.clone().requires_grad_()
    value = terms.Uniformity(1.5)(x, same=ids)
    expected = (-1.5 * distances(x, x))[ids[:, None] != ids].exp().mean().log()
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-12)
    found, told = (torch.autograd.grad(loss, x, retain_graph=True) for loss in (value, expected))
    torch.testing.assert_close(found, told, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: terms.MixedPairs(-1), "margin must be >= 0, got -1"),
        (lambda: terms.MixedPairs()(X, Y, Y), r"mixed must be \(7, K, 4\), got \(7, 4\)"),
        (lambda: terms.MixedPairs()(X, Y[:, None], 1 + Y[:, :1].abs()), r"\(7, 1\) in \[0, 1\]"),
        (lambda: terms.mixtures(X, Y[:3]), "of one shape"),
        (lambda: terms.mixtures(X, Y, beta=0), "beta must be > 0, got 0"),
        (lambda: terms.PixelConsistency(0), "threshold must be a number above 0"),
        (lambda: terms.pixel_centres(0 * X, 2, 2), "have an area"),
        (lambda: terms.pixel_centres(X[:, :3], 2, 2), r"floating \(B, 4\), got \(7, 3\)"),
        (lambda: terms.PrototypeHinge(-1), "margin must be >= 0, got -1"),
        (lambda: terms.PrototypeHinge()(X, Y[:1]), "prototypes needs at least 2 rows"),
        (lambda: terms.PrototypeHinge()(X, Y[:, :2]), "of one width, got 4 and 2"),
        (lambda: terms.PrototypeHinge()(X, Y, -LEVELS), r"margin must be \(7,\), one >= 0"),
        (lambda: terms.TripletQueries(-1.0), "margin must be >= 0, got -1.0"),
        (
            lambda: terms.TripletQueries()(X, QUERIES[:, :2]),
            r"whole numbers \(Q, 3\), got \(4, 2\)",
        ),
        (lambda: terms.TripletQueries()(X, QUERIES + 1), "rows 0 .. 6 of z, got 1 .. 7"),
        (lambda: terms.TripletQueries()(X, QUERIES, -LEVELS), r"margin must be \(4,\), one >= 0"),
        (lambda: terms.Uniformity(0.0), "t must be a number above 0, got 0.0"),
        (lambda: terms.CrossUniformity(math.nan), "t must be a number above 0"),
        (lambda: terms.Alignment(-1), "alpha must be a number above 0, got -1"),
        (lambda: terms.KoLeo(eps=-1), r"eps must be a number in \[0, 1\)"),
        (lambda: terms.Uniformity(ranks="ring"), "ranks must be 'auto' or 'local'"),
        (lambda: terms.Constraint([], 1.0), "finite loss of each group"),
        (lambda: terms.Constraint([1.0], 1.0)(torch.ones(2)), "each of the 1 groups"),
        (lambda: terms.Uniformity()(X[:1]), "at least 2 rows in the batch, got 1"),
        (lambda: terms.KoLeo()(X[0]), r"must be \(N, d\) embeddings"),
        (lambda: terms.Alignment()(X, Y[:3]), "must be a pair, got shapes"),
    ],
)
def test_bad_input_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_two_processes_have_the_value_and_gradient_of_one(tmp_path):
    """Shards of 5 and 2 rows; after the mean over processes, to 1e-9."""
    worker = Path(__file__).parent / "terms_worker.py"
    out = tmp_path / "found.json"
    run_all(worker, [(rank, tmp_path / "store", out) for rank in range(2)])
    found = json.loads(out.read_text())
    assert {
        "uniformity",
        "cross",
        "alignment",
        "koleo",
        "joint",
        "pearson",
        "triplet",
        "views",
        "area",
    } <= set(found)
    for name, errors in found.items():
        assert max(errors) < 1e-9, (name, errors)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0])
def test_rows_that_are_nearly_zero_are_correlated_as_they_are(scale):
    x, y = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[2] *= 1e-12
    x, y = x * scale, y * scale
    torch.testing.assert_close(terms.CrossCorrelation()(x, y), barlow(x, y))
