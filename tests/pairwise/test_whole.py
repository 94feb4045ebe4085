"""Reductions with derivatives in closed form against the readable reference."""

import numpy as np
import pytest
import torch

from tauten.pairwise import (
    Hinge,
    Offset,
    PairMask,
    Reduction,
    Scaled,
    Softplus,
    reduce_dense,
    reduce_tiled,
)
from tauten.pairwise.normal import least
from tauten.pairwise.sides import as_reduced
from tauten.pairwise.units import unit_rows
from tauten.pairwise.whole import reduce_whole

N, M, D = 5, 7, 3
GENERATOR = torch.Generator().manual_seed(0)
X, Y, OF_ROWS, OF_COLS, ONE = (
    torch.rand(*shape, generator=GENERATOR, dtype=torch.float64) + 0.2
    for shape in ((N, D), (M, D), (N, 1), (1, M), (1, 1))
)
IGNORE = torch.rand(N, M, generator=GENERATOR) < 0.3
IGNORE[2] = True  # a row of no pair
POSITIVE = torch.arange(N)
MASKS = {
    "none": None,
    "positives": PairMask(POSITIVE, own=True),
    "shifted": PairMask(POSITIVE + 2, own=True, diagonal=2),
    "columns": PairMask(torch.tensor([3, 0, 6, 1, 2]), own=True, diagonal=None),
    "ignored": PairMask(POSITIVE, own=True, ignore=IGNORE),
}


def reductions(kind, rows, cols, one):
    return {
        "one": [Reduction(a, "logsumexp", Scaled(), (one,)) for a in ("rows", "cols")],
        "steep": [Reduction(a, "logsumexp", Scaled(), (900 * one,)) for a in ("rows", "cols")],
        "each": [
            Reduction("rows", "logsumexp", Scaled(), (rows,)),
            Reduction("cols", "logsumexp", Scaled(), (cols,)),
        ],
        "sums": [Reduction(a, "sum", Scaled(), (one,)) for a in ("rows", "cols")],
        "hinges": [
            Reduction("rows", "sum", Hinge(), (-rows,)),
            Reduction("cols", "sum", Hinge(), (-cols,)),
        ],
        "sigmoid": [Reduction(a, "sum", Softplus(), (rows, one)) for a in ("rows", "cols")],
        "mixed": [
            Reduction("rows", "sum", Softplus(), (one, rows)),
            Reduction("rows", "logsumexp", Scaled(), (one,)),
            Reduction("cols", "logsumexp", Scaled(), (cols,)),
            Reduction("cols", "logsumexp", Offset(), (one, rows)),
        ],
    }[kind]


def total(engine, kind, mask, x, y, *numbers, cosine=True):
    results = engine(x, y, reductions(kind, *numbers), mask, cosine=cosine)
    weights = [torch.linspace(0.5, 1.5, len(r), dtype=r.dtype) for r in results]
    return sum((r.clamp(min=-1e3) * w).sum() for r, w in zip(results, weights, strict=True))


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", ["one", "steep", "each", "sums", "hinges", "sigmoid", "mixed"])
def test_the_reference_says_the_same(kind, mask, learned):
    found = []
    for engine in (reduce_dense, reduce_whole):
        x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
        numbers = [n.clone().requires_grad_(learned) for n in (OF_ROWS, OF_COLS, ONE)]
        value = total(engine, kind, MASKS[mask], x, y, *numbers)
        value.backward(retain_graph=True)
        value.backward()  # what is kept is not used up
        grads = [leaf.grad for leaf in (x, y, *numbers) if leaf.grad is not None]
        found.append([value.detach(), *grads])
    assert len(found[0]) == len(found[1])
    for expected, got in zip(*found, strict=True):
        assert torch.allclose(expected, got, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["one", "each", "sigmoid"])
def test_second_derivatives(kind):
    leaves = [t.clone().requires_grad_() for t in (X, Y, OF_ROWS, OF_COLS, ONE)]
    mask = MASKS["positives"]
    assert torch.autograd.gradgradcheck(lambda *a: total(reduce_whole, kind, mask, *a), leaves)


def test_low_precision_and_autocast_are_computed_in_float32():
    x, y = X.bfloat16().requires_grad_(), Y.bfloat16()
    one = torch.full((1, 1), 20.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows, cols = reduce_whole(x, y, reductions("one", one, one, one), cosine=True)
        (rows.sum() + cols.sum()).backward()
    exact = X.bfloat16().double().requires_grad_()
    wide = one.double()
    expected = reduce_dense(exact, y.double(), reductions("one", wide, wide, wide), cosine=True)
    (expected[0].sum() + expected[1].sum()).backward()
    assert rows.dtype == torch.float32
    assert torch.allclose(rows.double(), expected[0], rtol=1e-5)
    assert torch.allclose(x.grad.double(), exact.grad, rtol=2e-2, atol=1e-2)


def both_sides(x, y, *, trusting):
    units = unit_rows(x, y, trusting=trusting)
    return units.x, units.y, units.scores


def test_pairs_of_unit_rows_are_formed_once():
    units = unit_rows(X, Y, trusting=True)
    formed = []
    for scale in (2.0, 3.0):
        number = torch.full((1, 1), scale, dtype=X.dtype)
        given = [Reduction("rows", "logsumexp", Scaled(), (number,))]
        (result,) = reduce_whole(units.x, units.y, given, units=units)
        torch.testing.assert_close(result, (units.x @ units.y.T * number).logsumexp(1))
        formed.append(units.sim)
    assert formed[0] is not None
    assert formed[0] is formed[1]


@pytest.mark.parametrize("columns", [N, M])
def test_unit_rows(columns):
    def both(function):
        x, y = X.clone().requires_grad_(), Y[:columns].clone().requires_grad_()
        left, right, scores = function(x, y)
        weight = torch.linspace(-1, 1, N, dtype=x.dtype)
        ((left * 0.3).sum() + (right * right.detach().cos()).sum() + scores @ weight).backward()
        return left, right, scores, x.grad, y.grad

    def plain(x, y):
        x, y = as_reduced(x, y, cosine=True)
        return x, y, (x * y[:N]).sum(1)

    for trusting in (True, False):
        found = both(lambda x, y, t=trusting: both_sides(x, y, trusting=t))
        for expected, got in zip(both(plain), found, strict=True):
            assert torch.allclose(expected, got, rtol=1e-12, atol=1e-13)


def test_second_derivatives_of_unit_rows():
    def scalar(x, y):
        left, right, scores = both_sides(x, y, trusting=True)
        return (left**3).sum() + (right**2 * left.sum()).sum() + (scores**2).sum()

    assert torch.autograd.gradgradcheck(
        scalar, [X.clone().requires_grad_(), Y.clone().requires_grad_()]
    )


def test_rows_that_cannot_be_scaled_are_seen():
    x = X.float()
    x[1], x[3] = 0.0, 1e30
    left, _, scores = both_sides(x, Y.float(), trusting=True)
    assert left.isnan().any(1).tolist() == [False, True, False, True, False]
    assert scores.isnan().tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("engine", [reduce_dense, reduce_whole, reduce_tiled])
def test_gradients_of_won_pairs_are_exact_or_nothing(engine):
    """Weights below e^-71 may be 0; all others are those of float64."""
    x, one = torch.eye(6, 8), torch.full((1, 1), 150.0)
    y = (x + 0.4 * torch.rand(6, 8, generator=GENERATOR)).requires_grad_()
    (rows, _) = engine(x, y, reductions("one", one, one, one), cosine=True)
    (grad,) = torch.autograd.grad(rows.sum(), y)
    unit = y.detach().double().numpy()
    lengths = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = unit / lengths
    logits = 150 * x.double().numpy() @ unit.T
    weights = np.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    of_units = 150 * weights.T @ x.double().numpy()
    along = (of_units * unit).sum(1, keepdims=True)
    expected = torch.from_numpy((of_units - unit * along) / lengths)
    assert torch.allclose(grad.double(), expected, rtol=1e-4, atol=1e-4)
    assert least(torch.float32) < 1e-30


@pytest.mark.parametrize("scale", [60.0, 66.0, 79.0, 90.0])
@pytest.mark.parametrize("engine", [reduce_whole, reduce_tiled])
def test_small_cotangents_keep_the_digits_of_a_gradient(engine, scale):
    one = torch.full((1, 1), scale)
    x, y = (2 + 0.3 * torch.randn(2, 6, 8, generator=GENERATOR)).requires_grad_().unbind()
    few = reductions("one", one, one, one)
    exact = reductions("one", *(number.double() for number in (one, one, one)))
    (rows, _) = engine(x, y, few, cosine=True)
    (grad,) = torch.autograd.grad(1e-8 * rows.sum(), y)
    double = y.detach().double().requires_grad_()
    (rows, _) = reduce_dense(x.detach().double(), double, exact, cosine=True)
    (expected,) = torch.autograd.grad(rows.sum(), double)
    error = (1e8 * grad.double() - expected).abs().max() / expected.abs().max()
    assert error < 2e-4
