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


ORACLES = {
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
    } <= set(found)
    for name, errors in found.items():
        assert max(errors) < 1e-9, (name, errors)
