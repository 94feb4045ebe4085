"""Dense and tiled are the same function, on whatever is drawn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tauten.pairwise import (
    Active,
    Hinge,
    PairMask,
    Reduction,
    Scaled,
    Softplus,
    Term,
    reduce_dense,
    reduce_pairs,
    reduce_tiled,
)
from tauten.pairwise.plan import make_plan

TERMS = {"scaled": Scaled(), "hinge": Hinge(), "softplus": Softplus(), "active": Active()}


class Quartic(Term):
    """A term without closed derivatives: s⁴·a + s·b."""

    def value(self, s, *numbers, out=None):
        return s**4 * numbers[0] + s * numbers[1]


class Itself(Term):
    """φ = s, returned as it is, and a constant that does not even have its shape."""

    def value(self, s, *numbers, out=None):
        return s


class Constant(Term):
    """φ = 1 for every pair."""

    def value(self, s, *numbers, out=None):
        return s.new_ones(()) + 0.0 * s[:1, :1]


def test_a_term_may_return_the_tile_itself_or_less_than_a_tile():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    reductions = [
        Reduction("rows", how, term, ())
        for term in (Itself(), Constant())
        for how in ("logsumexp", "sum")
    ]
    tiled = reduce_tiled(x, y, reductions, tile=(2, 2))
    s = x @ y.T
    expected = (
        s.logsumexp(1),
        s.sum(1),
        torch.ones_like(s).logsumexp(1),
        torch.ones_like(s).sum(1),
    )
    for a, b in zip(tiled, expected, strict=True):
        torch.testing.assert_close(a, b)
    (found,), (wanted,) = gradients(tiled[:2], [x]), gradients(expected[:2], [x])
    torch.testing.assert_close(found, wanted)


@st.composite
def problems(draw):
    rows, cols, dim = (draw(st.integers(1, n)) for n in (9, 9, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, y = normal(rows, dim), normal(cols, dim)
    shapes = [(rows, 1), (1, cols), (1, 1)]
    low = draw(st.sampled_from([0.005, 0.05, 1.0]))
    reductions = []
    shared = {}
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from([*TERMS, "quartic"]))
        how = "sum" if name == "active" else draw(st.sampled_from(["sum", "logsumexp"]))
        numbers = []
        for _ in range(2 if name in ("softplus", "quartic") else 1):
            shape = draw(st.sampled_from(shapes))
            if draw(st.booleans()) and (name, shape) in shared:
                numbers.append(shared[name, shape])
                continue
            size = torch.rand(*shape, generator=generator, dtype=torch.float64)
            number = 1 / (low + size) if name in ("scaled", "softplus") else size - 0.5
            shared[name, shape] = number.requires_grad_()
            numbers.append(number)
        term = Quartic() if name == "quartic" else TERMS[name]
        along = draw(st.sampled_from(["rows", "cols"]))
        reductions.append(Reduction(along, how, term, tuple(numbers)))
    mask = None
    if draw(st.booleans()):
        diagonal = rows <= cols and draw(st.booleans())
        ids = torch.randint(0, 3, (rows + cols,), generator=generator)
        mask = PairMask(
            positive=torch.arange(rows)
            if diagonal
            else torch.randint(0, cols, (rows,), generator=generator),
            own=draw(st.booleans()),
            same=[(ids[:rows], ids[rows:])] if draw(st.booleans()) else (),
            ignore=torch.rand(rows, cols, generator=generator) < 0.3
            if draw(st.booleans())
            else None,
            diagonal=0 if diagonal else None,
            labels=(ids[:rows] % 2, ids[rows:] % 2) if draw(st.booleans()) else None,
        )
    tile = (draw(st.integers(1, 10)), draw(st.integers(1, 10)))
    return x, y, reductions, mask, tile


def gradients(results, inputs):
    generator = torch.Generator().manual_seed(1)
    total = sum(
        (r.masked_fill(r.isneginf(), 0.0) * torch.randn(r.shape, generator=generator)).sum()
        for r in results
    )
    total = total + 0.0 * sum(part.sum() for part in inputs)
    return torch.autograd.grad(total, inputs)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(problems())
def test_tiled_equals_dense(problem):
    x, y, reductions, mask, tile = problem
    x.requires_grad_()
    y.requires_grad_()
    inputs = [x, y, *{id(n): n for r in reductions for n in r.numbers}.values()]
    for cosine in (False, True):
        dense = reduce_dense(x, y, reductions, mask, cosine=cosine)
        expected = gradients(dense, inputs)
        tiled = reduce_tiled(x, y, reductions, mask, tile=tile, cosine=cosine)
        for a, b in zip(tiled, dense, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        for a, b in zip(gradients(tiled, inputs), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_an_empty_reduction_is_minus_infinity_with_zero_gradient():
    x = torch.eye(2, dtype=torch.float64).requires_grad_()
    number = torch.ones(1, 1, dtype=torch.float64)
    mask = PairMask(torch.arange(2), own=True, ignore=torch.tensor([[False, True], [False, False]]))
    for reduce in (reduce_dense, reduce_tiled):
        (result,) = reduce(x, x, [Reduction("rows", "logsumexp", Scaled(), (number,))], mask)
        assert float(result[0].detach()) == -float("inf")
        assert float(result[1].detach()) == 0.0
        (grad,) = gradients([result], [x])
        assert torch.isfinite(grad).all()


def test_the_tiled_gradient_exists_only_once():
    x = torch.eye(2, dtype=torch.float64).requires_grad_()
    number = torch.ones(1, 1, dtype=torch.float64)
    (result,) = reduce_tiled(x, x, [Reduction("rows", "logsumexp", Scaled(), (number,))])
    for value in (result.sum(), result.square().sum()):  # a constant cotangent, and another
        with pytest.raises(RuntimeError, match="first derivatives only"):
            torch.autograd.grad(value, x, create_graph=True)


def test_exponentials_are_summed_as_they_are_only_where_those_of_all_columns_fit():
    x = torch.eye(2)
    reduction = Reduction("rows", "logsumexp", Scaled(), (torch.full((1, 1), 65.0),))
    for cols, small in ((None, True), (140, True), (150, False), (10**6, False)):
        plan, _ = make_plan(x, x, [reduction], None, tile=(2, 2), cosine=True, cols=cols)
        assert plan.groups[0].small == small


def test_auto_holds_small_matrices_and_streams_large_ones():
    number = torch.ones(1, 1)

    def saved_bytes(rows):
        x = torch.zeros(rows, 2, requires_grad=True)
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            reduce_pairs(x, x, [Reduction("rows", "logsumexp", Scaled(), (number,))])
        return total

    assert saved_bytes(1024) >= 1024 * 1024 * 4
    assert saved_bytes(1025) < 1025 * 1025
