"""Low precision in: float32 at work, block by block, and gradients of the type that came."""

from itertools import accumulate

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tauten.pairwise import Reduction, Scaled, Softplus, reduce_dense, reduce_tiled

LOW = [torch.bfloat16, torch.float16]
TILE = (64, 96)


def sides(rows, cols, dim, dtype):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, dim, generator=generator).to(dtype) for n in (rows, cols))
    return x.requires_grad_(), y.requires_grad_()


def both_ways(x, y, *, cosine=True, engine=reduce_tiled, **options):
    dtype = torch.promote_types(x.dtype, torch.float32)
    scale = torch.linspace(5.0, 20.0, len(x), dtype=dtype).unsqueeze(1)
    one = torch.ones(1, 1, dtype=dtype)
    reductions = [
        Reduction("rows", "logsumexp", Scaled(), (scale,)),
        Reduction("cols", "logsumexp", Scaled(), (scale,)),
        Reduction("cols", "sum", Softplus(), (scale, -one)),
    ]
    return engine(x, y, reductions, cosine=cosine, **options)


def gradients(results, x, y):
    weights = (torch.linspace(0.2, 1.0, len(r), dtype=r.dtype) for r in results)
    total = sum((r * w).mean() for r, w in zip(results, weights, strict=True))
    return torch.autograd.grad(total, (x, y))


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("cosine", [True, False])
def test_low_precision_loses_only_what_its_inputs_and_gradients_round(dtype, cosine):
    x, y = sides(150, 170, 32, dtype)
    if not cosine:
        x, y = ((v / 20).detach().requires_grad_() for v in (x, y))
    exact_x, exact_y = (v.detach().double().requires_grad_() for v in (x, y))
    results = both_ways(x, y, cosine=cosine, tile=TILE)
    exact = both_ways(exact_x, exact_y, cosine=cosine, engine=reduce_dense)
    for a, b in zip(results, exact, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=2e-6, atol=2e-6)
    rounding = torch.finfo(dtype).eps
    for a, b in zip(gradients(results, x, y), gradients(exact, exact_x, exact_y), strict=True):
        assert a.dtype == dtype
        smallest = torch.finfo(dtype).tiny
        torch.testing.assert_close(
            a.double(), b, rtol=rounding, atol=1e-6 * float(b.abs().max()) + smallest
        )


@pytest.mark.parametrize("dtype", LOW)
@pytest.mark.parametrize("engine", [reduce_dense, lambda *a, **k: reduce_tiled(*a, tile=TILE, **k)])
def test_autocast_changes_nothing(dtype, engine):
    x, y = sides(100, 120, 16, torch.float32)
    expected = both_ways(x, y, engine=engine)
    with torch.autocast("cpu", dtype=dtype):
        results = both_ways(x, y, engine=engine)
    for a, b in zip(results, expected, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
    for a, b in zip(gradients(results, x, y), gradients(expected, x, y), strict=True):
        assert torch.equal(a, b)


def allocations(work):
    """Bytes that torch's CPU allocator lent (> 0) and got back (< 0), in their order."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        kept = work()
    del kept
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("cosine", [True, False])
def test_no_float32_copy_of_a_side_is_held(cosine):
    rows, dim = 1500, 256
    x, y = sides(rows, rows, dim, torch.bfloat16)

    def forward():
        return both_ways(x, y, cosine=cosine, tile=TILE)

    gradients(forward(), x, y)
    whole = rows * dim * 4
    at_work = 4 * (max(sum(TILE), 2 * 256) * dim + 6 * TILE[0] * TILE[1] + 20 * rows)
    assert at_work < 0.6 * whole
    assert max(accumulate(allocations(forward))) < at_work
    step = max(accumulate(allocations(lambda: gradients(forward(), x, y))))
    assert 2 * whole < step < 3 * whole + at_work


@pytest.mark.usefixtures("one_thread")
def test_all_tiles_of_a_sweep_are_made_in_the_same_four_buffers():
    x, y = sides(450, 500, 8, torch.float32)
    a, b = torch.full((450, 1), 10.0), torch.full((1, 500), 12.0)
    reductions = [
        Reduction(along, "logsumexp", Scaled(), (scale,))
        for along, scale in (("rows", a), ("cols", b))
    ]

    def step():
        results = reduce_tiled(x, y, reductions, tile=(64, 64), cosine=True)
        return gradients(results, x, y)

    step()
    assert sum(size >= 4 * 64 * 64 for size in allocations(step)) == 2 * 4
