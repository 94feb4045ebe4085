"""Losses of pairs in one step of autograd against their formulas in float64."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from hostreads import the_cpu_waits
from tauten.pairwise.both import reduce_both
from tauten.pairwise.objectives import Gap, GapAndHeight, Hinges, Sigmoids

N, D = 6, 5
SHAPES = [(), (N,), (2, N)]
OBJECTIVES = {
    "gap": (Gap(), [4.0]),
    "gap of a small temperature": (Gap(), [200.0]),
    "hinges": (Hinges(), [0.4]),
    "sigmoids": (Sigmoids(), [4.0, -2.0]),
}


def sides(dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, D, generator=generator, dtype=torch.float64)
    y = x + torch.randn(N, D, generator=generator, dtype=torch.float64)
    return x.to(dtype).requires_grad_(), y.to(dtype).requires_grad_()


def numbers(shape, sizes):
    generator = torch.Generator().manual_seed(4)
    return [
        (size * (1 + 0.1 * torch.rand(shape, generator=generator, dtype=torch.float64)))
        .detach()
        .requires_grad_()
        for size in sizes
    ]


#: pairs that are no negatives, both ways
AGREEING = [(1, 4), (4, 1), (2, 4), (4, 2)]
OUT = {"all": None, "but a few": torch.tensor([i * N + j for i, j in AGREEING])}


def literal(name, x, y, given, out=None):
    """The formula of each anchor, in a loop."""
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    a, *b = [number.expand(2, N) for number in given]
    results = []
    for side, sim in enumerate((s, s.T)):
        for i in range(N):
            no_negative = [(i, i), *([] if out is None else AGREEING)]
            others = sim[i, [j for j in range(N) if (i, j) not in no_negative]]
            if name.startswith("gap"):
                one = (others * a[side, i]).logsumexp(0) - sim[i, i] * a[side, i]
            elif name == "hinges":
                one = F.relu(others - sim[i, i] + a[side, i]).sum()
            else:
                one = F.softplus(others * a[side, i] + b[0][side, i]).sum()
                one = one + F.softplus(-(sim[i, i] * a[side, i] + b[0][side, i]))
            results.append(one)
    return torch.stack(results).view(2, N)


@pytest.mark.parametrize("out", OUT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_values_and_gradients_are_those_of_the_formula(name, shape, out):
    objective, sizes = OBJECTIVES[name]
    x, y = sides()
    given = numbers(shape, sizes)
    weight = torch.linspace(-1, 1, 2 * N, dtype=torch.float64).view(2, N)
    expected = literal(name, x, y, given, OUT[out])
    values = reduce_both(x, y, objective, *given, out=OUT[out])
    torch.testing.assert_close(values, expected)
    inputs = [x, y, *given]
    torch.testing.assert_close(
        torch.autograd.grad(values, inputs, weight),
        torch.autograd.grad(expected, inputs, weight),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("out", OUT)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["gap", "hinges", "sigmoids"])
def test_second_derivatives(name, shape, out):
    objective, sizes = OBJECTIVES[name]

    def values(x, y, *given):
        return reduce_both(x, y, objective, *given, out=OUT[out])

    assert torch.autograd.gradgradcheck(values, (*sides(), *numbers(shape, sizes)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("size", [4.0, 200.0])
def test_heights_are_means_under_the_weights(shape, size):
    x, y = sides()
    (a,) = numbers(shape, [size])
    both = reduce_both(x, y, GapAndHeight(), a)
    assert torch.equal(both[:2], reduce_both(x, y, Gap(), a))
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    for side, sim in enumerate((s, s.T)):
        logits = (sim * a.expand(2, N)[side].unsqueeze(1)).masked_fill(torch.eye(N) > 0, -torch.inf)
        mean = (logits.softmax(1) * sim).sum(1) - sim.diagonal()
        torch.testing.assert_close(both[2 + side], mean)
    gradients = torch.autograd.grad(both.sum(), (x, y, a))
    expected = torch.autograd.grad(reduce_both(x, y, Gap(), a).sum(), (x, y, a))
    torch.testing.assert_close(gradients, expected)


def test_many_gradients_at_once():
    """With ``is_grads_batched=True`` a cotangent stands for many."""
    for name, (objective, sizes) in OBJECTIVES.items():
        x, y = sides()
        inputs = [x, y, *numbers((N,), sizes)]
        values = reduce_both(*inputs[:2], objective, *inputs[2:]).flatten()
        eye = torch.eye(len(values), dtype=torch.float64)
        together = torch.autograd.grad(
            values, inputs, eye, is_grads_batched=True, retain_graph=True
        )
        expected = literal(name, *inputs[:2], inputs[2:]).flatten()
        one_by_one = [torch.autograd.grad(expected, inputs, row, retain_graph=True) for row in eye]
        for found, wanted in zip(together, zip(*one_by_one, strict=True), strict=True):
            torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-8, atol=1e-9)


def test_rows_that_cannot_be_scaled_make_it_nan():
    x, y = (side.detach() for side in sides(torch.float32))
    x[1], y[4] = 0.0, 1e30
    values = reduce_both(x, y, Hinges(), torch.tensor(0.2))
    assert values.isnan().all(1).tolist() == [True, True]


def test_one_side_alone_may_need_a_gradient():
    x, y = sides()
    (grad,) = torch.autograd.grad(
        reduce_both(x.detach(), y, Gap(), torch.tensor(5.0).double()).sum(), y
    )
    (expected,) = torch.autograd.grad(literal("gap", x.detach(), y, [torch.tensor(5.0)]).sum(), y)
    torch.testing.assert_close(grad, expected)


LOSSES = {
    "InfoNCE": lambda tile: tt.InfoNCE(0.2, tile=tile),
    "InfoNCE, reweighted": lambda tile: tt.InfoNCE(0.2, force="reweighted", tile=tile),
    "InfoNCE, learned": lambda tile: tt.InfoNCE(tt.Learnable(0.2, 0.01, 1.0), tile=tile),
    "InfoNCE, equalized": lambda tile: tt.InfoNCE(per_sample(), force="equalized", tile=tile),
    "DCL, weighted": lambda tile: tt.DCL(per_sample(), weight=per_sample(), tile=tile),
    "MaxMargin": lambda tile: tt.MaxMargin(per_sample(), tile=tile),
    "MaxMargin, equalized": lambda tile: tt.MaxMargin(per_sample(), force="equalized", tile=tile),
    "SigLIP": lambda tile: tt.SigLIP(
        tt.Learnable(0.2, 0.01, 1.0), tt.Learnable(-3.0, -9.0, 9.0), tile=tile
    ),
    "SigLIP of samples": lambda tile: tt.SigLIP(per_sample(), -2.0, tile=tile),
    "iSogCLR": lambda tile: tt.iSogCLR(9, rho=1.0, tau_init=0.2, tile=tile),
    "SogCLR": lambda tile: tt.SogCLR(9, per_sample(), tile=tile),
}


def per_sample():
    return tt.ClusterShift(torch.arange(1, 10), 0.1, 0.4)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", "dro"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_tiles(name, reduction):
    """Tiles have sweeps of their own; over two steps, so that what is kept agrees too."""
    index = torch.tensor([3, 1, 8, 0, 5, 6])
    outcomes = []
    for tile in ("dense", 4):
        loss_fn = LOSSES[name](tile).double()
        loss_fn.reduction = tt.DRO(0.5) if reduction == "dro" else reduction
        x, y = sides()
        for _ in range(2):
            x.grad = y.grad = None
            loss = loss_fn(x, y, index)
            (loss * torch.linspace(0.5, 1, loss.numel()).view_as(loss)).sum().backward()
            loss_fn.step()
        learned = [parameter.grad for parameter in loss_fn.parameters()]
        outcomes.append([loss.detach(), x.grad, y.grad, *learned, *loss_fn.buffers()])
    torch.testing.assert_close(*outcomes, rtol=1e-6, atol=1e-8)


def one_step(loss_fn, **relation):
    """Whether the losses of both sides are found in one step."""
    batch = loss_fn.batch(*sides(), torch.arange(N), **relation)
    losses = loss_fn.anchor_losses(batch, ["x2y", "y2x"])
    assert len(losses) in (1, 2)
    return len(losses) == 1 and losses[0].shape == (2, N)


APART, FEW, MANY = torch.arange(N), torch.tensor([0, 1, 2, 3, 4, 1]), torch.zeros(N).long()


@pytest.mark.parametrize("name", ["InfoNCE", "DCL, weighted", "MaxMargin", "SigLIP"])
def test_pairs_are_one_step(name):
    loss_fn = LOSSES[name]("auto")
    assert one_step(loss_fn)
    assert one_step(loss_fn, same=APART)
    assert one_step(loss_fn, same=(APART, FEW, FEW))
    assert not one_step(loss_fn, same=(APART, MANY))
    assert not one_step(loss_fn, same=[(FEW, FEW)])  # of two sides, which are not looked at
    with the_cpu_waits():
        assert one_step(loss_fn)
        assert not one_step(loss_fn, same=APART)


@pytest.mark.parametrize("same", [(APART,), (APART, FEW), (FEW.flip(0), FEW), (MANY, APART)])
@pytest.mark.parametrize("name", LOSSES)
def test_ids_that_are_looked_at_mask_as_others_do(name, same):
    """Vectors of two sides are masked tile by tile, whatever they hold."""
    index = torch.tensor([3, 1, 8, 0, 5, 6])
    outcomes = []
    for given in (same, [(ids, ids) for ids in same]):
        loss_fn = LOSSES[name]("dense").double()
        x, y = sides()
        for _ in range(2):
            x.grad = y.grad = None
            loss = loss_fn(x, y, index, same=given)
            loss.backward()
            loss_fn.step()
        learned = [parameter.grad for parameter in loss_fn.parameters()]
        outcomes.append([loss.detach(), x.grad, y.grad, *learned, *loss_fn.buffers()])
    torch.testing.assert_close(*outcomes, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("tile", ["dense", 4])
@pytest.mark.parametrize("same", [(), (APART // 2,), [(FEW, FEW)]], ids=["none", "many", "sides"])
@pytest.mark.parametrize("tau", [0.02, 0.5])
def test_a_small_factor_costs_no_digits(tile, same, tau):
    """The gradient of a loss times 1e-20 is 1e-20 times that of the loss in float64."""
    gradients = []
    for dtype, factor in ((torch.float64, 1.0), (torch.float32, 1e-20), (torch.float32, 1e-32)):
        x, y = sides(dtype)
        loss_fn = tt.InfoNCE(tt.Learnable(tau, 0.001, 1.0), tile=tile).to(dtype)
        loss = loss_fn(x, y, same=same)
        found = torch.autograd.grad(loss * factor, [x, y, *loss_fn.parameters()])
        gradients.append([(part.double() / factor) for part in found])
    for found in gradients[1:]:
        for part, expected in zip(found, gradients[0], strict=True):
            torch.testing.assert_close(
                part, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
            )
