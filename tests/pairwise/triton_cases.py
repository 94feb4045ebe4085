"""Triton's kernels against the dense engine in float64; run by test_triton.py.

The kernels are interpreted on the CPU with TRITON_INTERPRET=1 and compiled for a GPU without it,
which is decided when triton is imported: hence a process of its own.
"""

import os

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.losses import NonFiniteLossError
from tauten.pairwise import (
    Active,
    Hinge,
    Offset,
    One,
    PairMask,
    PairNumber,
    Reduction,
    Scaled,
    Softplus,
    Tilted,
    reduce_dense,
    reduce_pairs,
)
from tauten.pairwise import triton_blocks as blocks
from tauten.pairwise.plan import Gradients, make_plan
from tauten.pairwise.triton_sweeps import accumulate, propagate, reduce_triton

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
N, M, D = 45, 37, 20
BLOCK = (40, 24)
#: a GPU's exponentials and logarithms are rounded a few times more
SLACK = 1 if INTERPRETED else 10
#: rounding of the results' and the gradients' own types
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles in a block, and fewer pairs to interpret; a GPU gets its own sizes."""
    for tile in (blocks.TILE, blocks.GRADIENT_TILE) if INTERPRETED else ():
        for name, size in (("ROWS", 32), ("COLS", 32), ("STEP", 16)):
            monkeypatch.setitem(tile, name, size)


@pytest.fixture(autouse=True)
def interpreted_bfloat16(monkeypatch):
    """The interpreter multiplies the bits of bfloat16 as integers; here it widens them first."""
    if not INTERPRETED:
        return
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder

    dot = InterpreterBuilder.create_dot

    def widened(self, a, b, *rest):
        a, b = (
            self.cast_impl(v, tl.float32) if v.dtype.scalar == tl.bfloat16 else v for v in (a, b)
        )
        return dot(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", widened)


def drawn(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def number(shape, seed, low=1.0):
    generator = torch.Generator().manual_seed(seed)
    return (low + 9 * torch.rand(*shape, generator=generator)).to(DEVICE)


def ids(size, count, seed):
    return torch.randint(0, count, (size,), generator=torch.Generator().manual_seed(seed)).to(
        DEVICE
    )


def mask_of(kind):
    shape = {"positive": ids(N, M, 1), "diagonal": None}
    ignore = drawn(N, M, seed=4) > 1
    return {
        "none": None,
        "own": PairMask(own=True, **shape),
        "same": PairMask(
            own=False, same=[(ids(N, 5, 2), ids(M, 5, 3)), (ids(N, 9, 5), ids(M, 9, 6))], **shape
        ),
        "ignore": PairMask(own=True, ignore=ignore, **shape),
        "labels": PairMask(
            own=False,
            same=[(ids(N, 3, 2), ids(M, 3, 3))],
            ignore=ignore.T.contiguous().T,
            labels=(ids(N, 6, 7), ids(M, 6, 8)),
            **shape,
        ),
    }[kind]


def doubled(reductions):
    """The same in float64, as leaves, and those leaves."""
    known = {id(n): n.detach().double().requires_grad_() for r in reductions for n in r.numbers}
    wide = [
        Reduction(r.along, r.how, r.term, tuple(known[id(n)] for n in r.numbers))
        for r in reductions
    ]
    return wide, list(known.values())


def gradients(results, inputs):
    """Of a sum whose cotangents differ from row to row."""
    total = sum(
        (r.masked_fill(r.isneginf(), 0.0) * torch.linspace(0.3, 1.0, len(r)).to(r)).sum()
        for r in results
    )
    return torch.autograd.grad(total + 0.0 * sum(part.sum() for part in inputs), inputs)


def assert_near(found, expected, tolerance, name):
    tolerance = SLACK * tolerance
    largest = float(expected.detach().masked_fill(expected.isneginf(), 0.0).abs().max())
    torch.testing.assert_close(
        found.double(),
        expected.double(),
        rtol=tolerance,
        atol=tolerance * max(largest, 1e-3),
        msg=lambda text: f"{name}: {text}",
    )


def compare(reductions, mask, *, cosine, dtype=torch.float32, block=BLOCK, exact=2e-6):
    x, y = drawn(N, D, dtype=dtype).requires_grad_(), drawn(M, D, seed=9, dtype=dtype)
    y.requires_grad_()
    leaves = list({id(n): n.requires_grad_() for r in reductions for n in r.numbers}.values())
    found = reduce_triton(x, y, reductions, mask, block=block, cosine=cosine)
    grads = gradients(found, [x, y, *leaves])
    wide, wide_leaves = doubled(reductions)
    X, Y = (v.detach().double().requires_grad_() for v in (x, y))
    expected = reduce_dense(X, Y, wide, mask, cosine=cosine)
    wanted = gradients(expected, [X, Y, *wide_leaves])
    for at, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.dtype == torch.float32
        assert_near(a, b, exact, f"result {at}")
    for at, (a, b) in enumerate(zip(grads, wanted, strict=True)):
        own = TOLERANCE[dtype] if at < 2 else exact
        assert a.dtype == (dtype if at < 2 else torch.float32)
        assert_near(a, b, max(own, exact), f"gradient {at}")


ROW, COL, ONE = (N, 1), (1, M), (1, 1)
CASES = {
    "InfoNCE, τ of rows and of columns": ("logsumexp", Scaled(), [ROW], [COL]),
    "InfoNCE, τ of the other side": ("logsumexp", Scaled(), [COL], [ROW]),
    "InfoNCE, one τ": ("logsumexp", Scaled(), [ONE], [ONE]),
    "SigLIP": ("sum", Softplus(), [ROW, ROW], [COL, COL]),
    "SigLIP, one bias": ("sum", Softplus(), [COL, ONE], [ONE, ONE]),
    "max-margin": ("sum", Hinge(), [ROW], [COL]),
    "counts of violations": ("sum", Active(), [ROW], [COL]),
    "robust gradient": ("sum", Tilted(), [ROW, COL], [COL, ONE]),
    "counts": ("sum", One(), [], []),
    "rows only": ("logsumexp", Scaled(), [ROW], None),
    "columns only": ("sum", Softplus(), None, [ROW, COL]),
}


def reductions_of(case):
    how, term, rows, cols = CASES[case]
    shift = {"hinge": -5.0, "active": -5.0, "softplus": -1.0}.get(blocks.TERMS[type(term)], 0.0)
    found = []
    for along, shapes, seed in (("rows", rows, 10), ("cols", cols, 20)):
        if shapes is not None:
            numbers = [number(s, seed + k) + shift for k, s in enumerate(shapes)]
            found.append(Reduction(along, how, term, tuple(numbers)))
    return found


@pytest.mark.parametrize("kind", ["none", "labels"])
@pytest.mark.parametrize("case", CASES)
def test_each_term_and_each_shape_of_its_numbers(case, kind):
    exact = 1e-5 if case == "robust gradient" else 2e-6
    compare(reductions_of(case), mask_of(kind), cosine=True, exact=exact)


@pytest.mark.parametrize("kind", ["own", "same", "ignore"])
@pytest.mark.parametrize("cosine", [False, True])
def test_masks_with_and_without_a_running_maximum(kind, cosine):
    exact = 2e-6 if cosine else 1e-5
    compare(
        reductions_of("InfoNCE, τ of rows and of columns"),
        mask_of(kind),
        cosine=cosine,
        exact=exact,
    )


@pytest.mark.parametrize(
    ("case", "dtype", "cosine"),
    [
        ("InfoNCE, τ of rows and of columns", torch.bfloat16, False),
        ("InfoNCE, τ of rows and of columns", torch.float16, True),
        ("SigLIP", torch.bfloat16, True),
        ("max-margin", torch.bfloat16, True),
    ],
)
def test_sixteen_bits_are_multiplied_exactly(case, dtype, cosine):
    exact = 2e-6 if cosine else 1e-5
    compare(reductions_of(case), mask_of("same"), cosine=cosine, dtype=dtype, exact=exact)


def test_numbers_that_both_directions_share_have_one_gradient():
    tau = number(ONE, 1)
    both = [Reduction(along, "logsumexp", Scaled(), (tau,)) for along in ("rows", "cols")]
    compare(both, None, cosine=True)


@pytest.mark.parametrize("block", [(12, 37), (45, 9), (4096, 4096)])
def test_the_result_does_not_depend_on_the_blocks(block):
    compare(reductions_of("SigLIP"), mask_of("own"), cosine=True, block=block)


def test_every_tile_of_many_is_reduced_once():
    x, y = drawn(300, 3), drawn(70, 3)
    counts = [Reduction(along, "sum", One(), ()) for along in ("rows", "cols")]
    rows, cols = reduce_triton(x, y, counts)
    assert rows.tolist() == [70.0] * 300
    assert cols.tolist() == [300.0] * 70


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_columns_may_come_in_blocks(dtype):
    """As they do from other processes: sides at hand start at a later column."""
    reductions = reductions_of("InfoNCE, τ of rows and of columns")
    mask = mask_of("labels")
    x, y = drawn(N, D, dtype=dtype), drawn(M, D, seed=9, dtype=dtype)
    plan, numbers = make_plan(x, y, reductions, mask, tile=BLOCK, cosine=True)
    left, parts = plan.side(x), [slice(0, 13), slice(13, 30), slice(30, M)]
    results = plan.empty(left, M)
    for part in parts:
        accumulate(plan, left, plan.side(y[part]), part.start, numbers, results)
    plan.finish(results, range(2))
    factors = plan.factors(results, [torch.ones_like(r) for r in results])
    found = Gradients.zeros(plan, left, numbers, [True, True])
    grad_y = torch.zeros(M, D, device=DEVICE)
    for part in parts:
        right = plan.side(y[part])
        propagate(plan, left, right, part.start, numbers, results, factors, found, grad_y[part])
    leaves = [t.requires_grad_() for t in (x, y, *numbers)]
    whole = reduce_triton(x, y, reductions, mask, block=BLOCK, cosine=True)
    wanted = torch.autograd.grad(sum(r.sum() for r in whole), leaves)
    for at, (a, b) in enumerate(zip(results, whole, strict=True)):
        assert_near(a, b, 1e-6, f"result {at}")
    assert found.x is not None
    grads = [left.gradient(found.x), plan.side(y).gradient(grad_y), *found.numbers]
    for at, (a, b) in enumerate(zip(grads, wanted, strict=True)):
        assert_near(a, b, max(TOLERANCE[dtype], 1e-6) if at < 2 else 1e-6, f"gradient {at}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_products_with_sixteen_bits_are_not_rounded_to_them(dtype):
    reductions = reductions_of("InfoNCE, τ of rows and of columns")
    x, y = drawn(N, D, dtype=dtype), drawn(M, D, seed=9, dtype=dtype)
    plan, numbers = make_plan(x, y, reductions, None, tile=BLOCK, cosine=False)
    left, right = plan.side(x), plan.side(y)
    results = reduce_triton(x, y, reductions, block=BLOCK)
    factors = plan.factors(results, [torch.ones_like(r) for r in results])
    found, grad_y = Gradients.zeros(plan, left, numbers, [False, False]), right.zeros()
    propagate(plan, left, right, 0, numbers, results, factors, found, grad_y)
    X, Y = (v.double().requires_grad_() for v in (x, y))
    expected = reduce_dense(X, Y, doubled(reductions)[0])
    wanted = torch.autograd.grad(sum(r.sum() for r in expected), [X, Y])
    for a, b in zip((found.x, grad_y), wanted, strict=True):
        assert_near(a, b, 2e-5, "gradient")


INDEX = torch.arange(24)
COUNTS = torch.arange(1, 25) ** 2
SCHEDULE = tt.mmts(COUNTS, alpha=0.04, shift=(0.05, 0.2), period=10)
LOSSES = {
    "InfoNCE": lambda tile: tt.InfoNCE(SCHEDULE, tile=tile),
    "InfoNCE, low τ": lambda tile: tt.InfoNCE(0.005, tile=tile),
    "InfoNCE, learned τ": lambda tile: tt.InfoNCE(tt.Learnable(0.1, low=0.01, high=1.0), tile=tile),
    "InfoNCE, reweighted": lambda tile: tt.InfoNCE(SCHEDULE, tile=tile, force="reweighted"),
    "DCL": lambda tile: tt.DCL(SCHEDULE, tile=tile),
    "SigLIP": lambda tile: tt.SigLIP(
        SCHEDULE, bias=tt.Learnable(-10.0, low=-20.0, high=0.0), tile=tile
    ),
    "MaxMargin": lambda tile: tt.MaxMargin(SCHEDULE, tile=tile),
    "MaxMargin, equalized": lambda tile: tt.MaxMargin(SCHEDULE, tile=tile, force="equalized"),
    "InfoNCE, x2y": lambda tile: tt.InfoNCE(SCHEDULE, tile=tile, directions="x2y"),
}


@pytest.mark.parametrize("relation", ["pairs", "same", "positives"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_the_dense_engine_in_float64(name, relation):
    options = {
        "pairs": {},
        "same": {"same": (INDEX // 3, INDEX % 7)},
        "positives": {"positives": INDEX.flip(0)},
    }[relation]
    options = {k: v.to(DEVICE) if hasattr(v, "to") else v for k, v in options.items()}
    x = drawn(24, 9)
    y = x.flip(0) if relation == "positives" else x
    y = y + drawn(24, 9, seed=1)
    found, expected = [], []
    for tile, dtype, results in (
        ("triton", torch.float32, found),
        ("dense", torch.float64, expected),
    ):
        loss_fn = LOSSES[name](tile).to(DEVICE)
        leaves = [v.detach().to(dtype).requires_grad_() for v in (x, y)]
        loss = loss_fn(*leaves, INDEX.to(DEVICE), **options)
        learned = list(loss_fn.parameters())
        results.extend([loss, *torch.autograd.grad(loss, [*leaves, *learned])])
    tolerance = 2e-4 if "low τ" in name else 1e-5
    for at, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert_near(a, b, tolerance, f"output {at}")


def test_an_empty_reduction_is_minus_infinity_with_zero_gradient():
    x = torch.eye(2, device=DEVICE).requires_grad_()
    ignore = torch.tensor([[False, True], [False, False]], device=DEVICE)
    mask = PairMask(torch.arange(2, device=DEVICE), own=True, ignore=ignore)
    reductions = [Reduction("rows", "logsumexp", Scaled(), (torch.ones(1, 1, device=DEVICE),))]
    for cosine in (False, True):
        (result,) = reduce_triton(x, x, reductions, mask, cosine=cosine)
        assert result.tolist() == [-float("inf"), 0.0]
        (grad,) = gradients([result], [x])
        assert grad.tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_softplus_far_below_zero_keeps_its_relative_precision():
    x = torch.eye(4, device=DEVICE)
    bias = torch.tensor([[-3.0], [-16.0], [-30.0], [-60.0]], device=DEVICE)
    scale = torch.ones(1, 1, device=DEVICE)
    reduction = Reduction("rows", "sum", Softplus(), (scale, bias))
    (found,) = reduce_triton(x, x, [reduction])
    expected = F.softplus(x.double() + bias.double()).sum(1)
    torch.testing.assert_close(found.double(), expected, rtol=SLACK * 1e-6, atol=0.0)


@pytest.mark.parametrize("name", ["InfoNCE", "SigLIP", "MaxMargin"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_noticed(name, value):
    x = drawn(24, 9)
    x[3, 2] = value
    with pytest.raises(NonFiniteLossError, match="x has NaN or infinite"):
        LOSSES[name]("triton").to(DEVICE)(x, drawn(24, 9, seed=1), INDEX.to(DEVICE))


def test_a_nan_is_not_hidden_by_the_hinge():
    x = drawn(4, 3)
    x[1, 1] = float("nan")
    margin = torch.zeros(1, 1, device=DEVICE)
    (total,) = reduce_triton(x, drawn(5, 3), [Reduction("rows", "sum", Hinge(), (margin,))])
    assert total.isnan().tolist() == [False, True, False, False]


def test_no_matrix_is_saved_for_the_backward_pass():
    x, y = drawn(N, D).requires_grad_(), drawn(M, D, seed=1).requires_grad_()
    largest = 0

    def pack(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        reduce_triton(x, y, reductions_of("SigLIP"), mask_of("own"), cosine=True)
    assert largest == x.numel()


def refused(x, reductions):
    with pytest.raises(ValueError, match="use tile='auto'") as error:
        reduce_pairs(x, x, reductions, tile="triton")
    return str(error.value)


def test_what_is_not_supported_is_named():
    x, one = drawn(4, 3), torch.ones(1, 1, device=DEVICE)
    plain = Reduction("rows", "logsumexp", Scaled(), (one,))
    assert "float64" in refused(x.double(), [plain])
    assert "2 reductions along rows" in refused(x, [plain, plain])
    assert "term Offset" in refused(x, [Reduction("rows", "sum", Offset(), (one, one))])
    ruled = Reduction.of("rows", "sum", Scaled(), PairNumber(torch.cos))
    assert "term Ruled" in refused(x, [ruled])


def test_two_calls_agree_to_the_bit():
    x, y = drawn(N, D).requires_grad_(), drawn(M, D, seed=1).requires_grad_()
    reductions = reductions_of("InfoNCE, τ of rows and of columns")
    leaves = [x, y, *(n.requires_grad_() for r in reductions for n in r.numbers)]
    runs = []
    for _ in range(2):
        results = reduce_triton(x, y, reductions, mask_of("own"), block=BLOCK, cosine=True)
        runs.append([*results, *gradients(results, leaves)])
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)
