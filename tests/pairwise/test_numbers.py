"""Numbers of pairs: rules applied tile by tile are the matrix written out, with its gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tauten.pairwise import (
    Hinge,
    Offset,
    One,
    PairMask,
    PairNumber,
    Reduction,
    Scaled,
    Softplus,
    Tilted,
    Weight,
    combine,
    reciprocal,
    reduce_dense,
    reduce_tiled,
)


def wave(s):
    """A rule of the similarity alone."""
    return 1.5 + torch.cos(2 * s)


def frozen_wave(s):
    """The same rule without a gradient."""
    return wave(s.detach())


def bend(s, rows, cols):
    """A rule of the similarity and of numbers of both samples."""
    return 2.0 + s * rows + rows * cols


def apart(s, rows, cols):
    """A rule of vectors of both samples: 1 + their distance."""
    return 1.0 + (rows - cols).norm(dim=-1).to(s)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def positive(*shape, seed=0):
    return 0.5 + normal(*shape, seed=seed).abs()


def test_combine_of_tensors_is_the_function_itself():
    a, b = positive(4, 1), positive(1, 3, seed=1)
    found = combine(torch.mul, a, b)
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, a * b)
    assert torch.equal(reciprocal(a), 1 / a)


def test_nested_combinations_have_the_value_of_the_formula_written_out():
    s, rows, cols, scale = normal(4, 3), positive(4, 1), positive(1, 3, seed=1), positive(1, 1)
    first = PairNumber(bend, (rows, cols))
    number = combine(torch.sub, combine(torch.mul, reciprocal(first), scale), PairNumber(wave))
    assert isinstance(number, PairNumber)
    found = number.rule(s, *number.numbers)
    for i in range(4):
        for j in range(3):
            pair = float(2 + s[i, j] * rows[i, 0] + rows[i, 0] * cols[0, j])
            expected = float(scale) / pair - (1.5 + math.cos(2 * float(s[i, j])))
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-12)


def test_equal_combinations_are_recognised():
    rows, cols = positive(4, 1), positive(1, 3)
    number = PairNumber(bend, (rows, cols))
    same, other = reciprocal(number), reciprocal(PairNumber(wave))
    assert reciprocal(number).rule == same.rule
    assert hash(reciprocal(number).rule) == hash(same.rule)
    assert other.rule != same.rule
    assert combine(torch.neg, number).rule != same.rule


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize(("n", "m"), [(4, 3), (3, 5), (1, 3), (3, 1), (1, 1)])
def test_at_reads_the_pairs_off_the_matrix(n, m, vectors):
    s = normal(n, m)
    columns = torch.arange(n) % m
    shape = (2,) if vectors else ()
    rows, cols = positive(n, 1, *shape), positive(1, m, *shape, seed=1)
    number = PairNumber(apart if vectors else bend, (rows, cols))
    matrix = number.rule(s, *number.numbers)
    of_pairs = s[torch.arange(n), columns]
    torch.testing.assert_close(number.at(of_pairs, columns), matrix[torch.arange(n), columns])
    halved = combine(torch.mul, number, torch.full((1, 1), 0.5, dtype=s.dtype))
    torch.testing.assert_close(halved.at(of_pairs, columns), matrix[torch.arange(n), columns] / 2)


def count_evaluations(how):
    calls = 0

    def counting(s):
        nonlocal calls
        calls += len(s) > 1  # one pair shows the graph
        return wave(s)

    x, y = normal(4, 3), normal(6, 3, seed=1)
    reductions = [
        Reduction.of(along, how, Scaled(), reciprocal(PairNumber(counting)))
        for along in ("rows", "cols")
    ]
    reduce_tiled(x, y, reductions, tile=(2, 3))
    return calls


def test_an_equal_rule_of_both_directions_is_evaluated_once_for_each_tile():
    assert count_evaluations("sum") == 4


def test_plain_numbers_need_no_rule():
    number = positive(4, 1)
    reduction = Reduction.of("rows", "sum", Scaled(), number)
    assert reduction.term == Scaled()
    assert reduction.numbers == (number,)


TERMS = {
    "scaled": (Scaled(), 1, lambda s, a: s * a),
    "hinge": (Hinge(), 1, lambda s, c: (s + c).clamp(min=0)),
    "softplus": (Softplus(), 2, lambda s, a, b: F.softplus(s * a + b)),
    "tilted": (Tilted(), 2, lambda s, a, c: s * torch.exp(s * a - c)),
    "offset": (Offset(), 2, lambda s, a, c: (s - c) * a),
    "weight": (Weight(), 3, lambda s, a, c, k: torch.exp((s - c) * a - k)),
    "one": (One(), 0, lambda s: torch.ones_like(s)),
}


def literal(value, reduction, out):
    """The reduction of a matrix that is written out."""
    kept = value if out is None else value.masked_fill(out, 0.0)
    if reduction.how == "sum":
        return kept.sum(reduction.dim)
    low = value if out is None else value.masked_fill(out, -math.inf)
    return low.logsumexp(reduction.dim)


@st.composite
def problems(draw):
    rows, cols, dim = (draw(st.integers(1, n)) for n in (7, 7, 3))
    seed = draw(st.integers(0, 10_000))
    x, y = normal(rows, dim, seed=seed), normal(cols, dim, seed=seed + 1)

    def tensor(shape, at):
        return (0.5 + normal(*shape, seed=seed + at).abs()).requires_grad_()

    def number(at):
        """A number and the function of s that writes it out as a matrix."""
        kind = draw(st.sampled_from(["tensor", "wave", "frozen", "bend", "apart", "combined"]))
        if kind == "tensor":
            part = tensor(draw(st.sampled_from([(rows, 1), (1, cols), (1, 1)])), at)
            return part, [part], lambda s: part
        if kind in ("wave", "frozen"):
            rule = wave if kind == "wave" else frozen_wave
            return PairNumber(rule), [], rule
        if kind == "bend":
            parts = tensor((rows, 1), at), tensor((1, cols), at + 50)
            return PairNumber(bend, parts), list(parts), lambda s: bend(s, *parts)
        table = normal(rows, 1, 2, seed=seed + at), normal(1, cols, 2, seed=seed + at + 50)
        if kind == "apart":
            return PairNumber(apart, table), [], lambda s: apart(s, *table)
        factor = tensor(draw(st.sampled_from([(rows, 1), (1, cols), (1, 1)])), at)
        found = combine(torch.mul, factor, reciprocal(PairNumber(apart, table)))
        return found, [factor], lambda s: factor / apart(s, *table)

    reductions, matrices, inputs = [], [], []
    for r in range(draw(st.integers(1, 3))):
        term, count, formula = TERMS[draw(st.sampled_from(sorted(TERMS)))]
        drawn = [number(100 * r + 10 * k + 2) for k in range(count)]
        along = draw(st.sampled_from(["rows", "cols"]))
        how = draw(st.sampled_from(["sum", "logsumexp"]))
        reductions.append(Reduction.of(along, how, term, *(d[0] for d in drawn)))
        inputs.extend(part for d in drawn for part in d[1])
        functions = [d[2] for d in drawn]
        matrices.append(
            lambda s, formula=formula, functions=functions: formula(s, *(f(s) for f in functions))
        )
    mask = None
    if draw(st.booleans()):
        own = draw(st.booleans())
        ignore = torch.rand(rows, cols, generator=torch.Generator().manual_seed(seed)) < 0.3
        mask = PairMask(torch.arange(rows) % cols, own=own, ignore=ignore, diagonal=None)
    tile = (draw(st.integers(1, 8)), draw(st.integers(1, 8)))
    return x, y, reductions, matrices, inputs, mask, tile, draw(st.booleans())


def gradients(results, inputs):
    total = sum(
        (r.masked_fill(r.isneginf(), 0.0) * torch.linspace(0.3, 1.0, len(r)).double()).sum()
        for r in results
    )
    return torch.autograd.grad(total + 0.0 * sum(part.sum() for part in inputs), inputs)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(problems())
def test_dense_and_tiled_are_the_matrix_written_out(problem):
    x, y, reductions, matrices, inputs, mask, tile, cosine = problem
    inputs = [x.requires_grad_(), y.requires_grad_(), *inputs]
    left, right = (F.normalize(v, dim=1) if cosine else v for v in (x, y))
    s = left @ right.T
    out = None if mask is None else mask.tile(slice(0, len(x)), slice(0, len(y)))
    expected = [
        literal(matrix(s).expand_as(s), reduction, out)
        for matrix, reduction in zip(matrices, reductions, strict=True)
    ]
    wanted = gradients(expected, inputs)
    for engine in (reduce_dense, lambda *args, **kw: reduce_tiled(*args, tile=tile, **kw)):
        found = engine(x, y, reductions, mask, cosine=cosine)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        for a, b in zip(gradients(found, inputs), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
def test_gradcheck_through_rules_and_their_numbers(tile):
    x, y = (normal(5, 3, seed=k).requires_grad_() for k in (0, 1))
    rows, cols = (positive(*shape).requires_grad_() for shape in ((5, 1), (1, 5)))

    def value(x, y, rows, cols):
        number = combine(torch.mul, reciprocal(PairNumber(bend, (rows, cols))), PairNumber(wave))
        reductions = [
            Reduction.of("rows", "logsumexp", Scaled(), number),
            Reduction.of("cols", "sum", Softplus(), number, rows),
        ]
        if tile == "dense":
            return reduce_dense(x, y, reductions, cosine=True)
        return reduce_tiled(x, y, reductions, tile=tile, cosine=True)

    assert torch.autograd.gradcheck(value, (x, y, rows.abs(), cols), fast_mode=True)


def test_a_frozen_rule_leaves_the_gradient_of_a_constant_matrix():
    x, y = normal(4, 3).requires_grad_(), normal(4, 3, seed=1)
    constant = wave((x @ y.T).detach())
    (expected,) = torch.autograd.grad(((x @ y.T) * constant).logsumexp(1).sum(), x)
    reduction = Reduction.of("rows", "logsumexp", Scaled(), PairNumber(frozen_wave))
    for tile in ((4, 4), (3, 2)):
        (result,) = reduce_tiled(x, y, [reduction], tile=tile)
        (found,) = torch.autograd.grad(result.sum(), x)
        torch.testing.assert_close(found, expected)


def test_no_matrix_is_saved_for_the_backward_pass():
    rows, cols = nn.Parameter(positive(60, 1)), positive(1, 60, seed=1)
    x = normal(60, 2).requires_grad_()
    number = reciprocal(PairNumber(bend, (rows, cols)))
    largest = 0

    def pack(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        (result,) = reduce_tiled(
            x, x, [Reduction.of("rows", "logsumexp", Scaled(), number)], tile=(16, 16)
        )
    result.sum().backward()
    assert largest == x.numel()
    assert rows.grad is not None
