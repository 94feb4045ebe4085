"""Losses under torch.compile and torch.func."""

import pytest
import torch
from torch.autograd import forward_ad

import tauten as tt

COUNTS = torch.tensor([1, 1, 2, 3, 5, 8, 13, 21])


def schedules():
    return {
        "cosine": tt.Cosine(0.05, 0.2, period=10),
        "anneal": tt.Anneal(0.3, 0.05, steps=10),
        "mmts": tt.mmts(COUNTS, 0.04, (0.05, 0.09), period=10),
        "clamped": 0.5 * tt.Cosine(0.05, 0.4, period=10).clamp(0.1, 0.3),
    }


@pytest.mark.parametrize("name", list(schedules()))
def test_a_schedule_is_not_compiled_anew_at_every_step(name):
    torch.compiler.reset()
    loss_fn, eager = tt.InfoNCE(schedules()[name]), tt.InfoNCE(schedules()[name])
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(loss_fn, backend=backend)
    generator, seen = torch.Generator().manual_seed(0), []
    for _ in range(14):
        x, y = torch.randn(2, 8, 4, generator=generator)
        index = torch.arange(8)
        assert float(compiled(x, y, index)) == pytest.approx(float(eager(x, y, index)), rel=1e-5)
        loss_fn.step()
        eager.step()
        seen.append(len(graphs))
    assert seen[2] > 0
    assert seen[-1] == seen[2], "compiled anew"
    torch.compiler.reset()


def test_a_loaded_step_reaches_a_compiled_schedule():
    torch.compiler.reset()
    x, y = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    eager = tt.InfoNCE(tt.Cosine(0.05, 0.2, period=10))
    for _ in range(7):
        eager.step()
    loss_fn = tt.InfoNCE(tt.Cosine(0.05, 0.2, period=10))
    compiled = torch.compile(loss_fn, backend="eager")
    first = float(compiled(x, y))
    loss_fn.load_state_dict(eager.state_dict())
    assert float(compiled(x, y)) == pytest.approx(float(eager(x, y)), rel=1e-5)
    assert float(compiled(x, y)) != pytest.approx(first, rel=1e-3)
    torch.compiler.reset()


def test_a_compiled_loss_sees_rows_of_any_length():
    torch.compiler.reset()
    x, y = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    loss_fn = tt.InfoNCE(0.1)
    compiled = torch.compile(loss_fn, backend="eager")
    factors = torch.tensor([2.0**-70, 2.0**70] + [1.0] * 6).unsqueeze(1)
    (expected,) = torch.autograd.grad(loss_fn(short := x.clone().requires_grad_(), y), short)
    long = (x * factors).requires_grad_()
    assert float(compiled(x, y)) == pytest.approx(float(loss_fn(x, y)), rel=1e-5)
    value = compiled(long, y)
    assert value.detach().item() == pytest.approx(float(loss_fn(x, y)), rel=1e-5)
    (got,) = torch.autograd.grad(value, long)
    assert torch.allclose(got * factors, expected, rtol=1e-4, atol=1e-6)
    torch.compiler.reset()


def losses():
    learnable = tt.Learnable(0.1, 0.01, 1.0)
    return {
        "constant": tt.InfoNCE(0.1),
        "mmts": tt.InfoNCE(schedules()["mmts"]),
        "learnable": tt.InfoNCE(learnable),
        "DCL": tt.DCL(schedules()["cosine"]),
        "MaxMargin": tt.MaxMargin(schedules()["mmts"]),
        "SigLIP": tt.SigLIP(learnable),
    }


@pytest.mark.parametrize("name", list(losses()))
def test_a_loss_is_one_graph(name):
    torch.compiler.reset()
    found = []
    for loss_fn in (losses()[name], torch.compile(losses()[name], backend="eager", fullgraph=True)):
        pairs = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        value = loss_fn(*pairs, torch.arange(8))
        value.backward()
        found.append((value.detach(), pairs.grad, *(p.grad for p in loss_fn.parameters())))
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)
    torch.compiler.reset()


def with_tables():
    return {
        "SogCLR": tt.SogCLR(8, 0.1),
        "SogCLR, mmts": tt.SogCLR(8, schedules()["mmts"]),
        "iSogCLR": tt.iSogCLR(8, tau_init=0.1),
        "NUCLR": tt.NUCLR(8, 0.1),
    }


@pytest.mark.parametrize("name", list(with_tables()))
def test_a_loss_with_tables_is_one_graph_and_learns_as_without(name):
    torch.compiler.reset()
    eager, compiled = with_tables()[name], with_tables()[name]
    called = torch.compile(compiled, backend="eager", fullgraph=True)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        pairs, ids = (
            torch.randn(2, 6, 4, generator=generator),
            torch.randperm(8, generator=generator)[:6],
        )
        found = []
        for call, loss_fn in ((eager, eager), (called, compiled)):
            x, y = (side.clone().requires_grad_() for side in pairs)
            value = call(x, y, ids)
            found.append((value.detach(), *torch.autograd.grad(value, (x, y))))
            loss_fn.step()
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)
    state = compiled.state_dict()
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-4, atol=1e-6, equal_nan=True)
    torch.compiler.reset()


def test_a_compiled_loss_refuses_what_it_cannot_use():
    torch.compiler.reset()
    x, y = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    loss_fn = losses()["mmts"]
    compiled = torch.compile(loss_fn, backend="eager", fullgraph=True)
    for ids in (torch.arange(8) + 1, -torch.arange(8)):
        with pytest.raises(RuntimeError, match="unknown sample ids: they run from 0 to 7"):
            compiled(x, y, ids)
    compiled(x, y, torch.arange(8))
    loss_fn.step()
    assert compiled(torch.full_like(x, torch.nan), y, torch.arange(8)).isnan()
    with pytest.raises(tt.NonFiniteLossError, match="the compiled loss of the last batch is NaN"):
        loss_fn.step()
    assert loss_fn.steps == 1
    loss_fn.step()
    torch.compiler.reset()


@pytest.mark.parametrize("inner", [lambda f: f, torch.func.grad, torch.func.grad_and_value])
def test_vmap_is_refused_by_name(inner):
    x, y = torch.randn(2, 3, 8, 4)
    loss_fn = tt.InfoNCE(0.1)
    with pytest.raises(ValueError, match=r"x stands for several batches, under torch\.func\.vmap"):
        torch.func.vmap(inner(lambda a, b: loss_fn(a, b)))(x, y)
    with pytest.raises(ValueError, match=r"y stands for several batches, under torch\.func\.vmap"):
        torch.func.vmap(lambda b: loss_fn(x[0], b))(y)
    index = torch.arange(8).repeat(3, 1)
    with pytest.raises(ValueError, match=r"index stands for several batches"):
        torch.func.vmap(lambda i: loss_fn(x[0], y[0], i))(index)
    with pytest.raises(ValueError, match=r"stands for several batches"):
        torch.func.vmap(tt.terms.KoLeo())(x)


def test_gradients_of_torch_func_stay_right():
    x, y = torch.randn(2, 8, 4, dtype=torch.float64)
    loss_fn = tt.InfoNCE(0.1)
    found = torch.func.grad(lambda a: loss_fn(a, y))(x)
    leaf = x.clone().requires_grad_()
    loss_fn(leaf, y).backward()
    torch.testing.assert_close(found, leaf.grad)


@pytest.mark.parametrize(
    "loss_fn",
    [tt.InfoNCE(0.2), tt.DCL(0.2), tt.SigLIP(0.2, -2.0), tt.MaxMargin(0.3)],
    ids=lambda loss_fn: type(loss_fn).__name__,
)
@pytest.mark.parametrize("options", [{}, {"same": torch.arange(6) // 2}])
def test_forward_mode_is_that_of_torch_func_and_the_other_says_so(loss_fn, options):
    x, y, along = torch.randn(
        3, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    step = 1e-6
    ends = (loss_fn(x + sign * step * along, y, **options) for sign in (1, -1))
    expected = (next(ends) - next(ends)) / (2 * step)
    tangent = torch.func.jvp(lambda a: loss_fn(a, y, **options), (x,), (along,))[1]
    torch.testing.assert_close(tangent, expected, rtol=1e-6, atol=1e-8)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, along)
        with pytest.raises(RuntimeError, match=r"use torch\.func\.jvp, with tile='dense'"):
            loss_fn(dual, y, **options)
