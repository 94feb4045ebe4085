"""Every loss against finite differences in float64, dense and tiled."""

import pytest
import torch

import tauten as tt

N = 5
INDEX = torch.tensor([3, 0, 4, 1, 4])
COUNTS = [1, 5, 40, 300, 7]


class PerSample(tt.Control):
    """A learned value for each sample, to differentiate through."""

    granularity = "anchor"
    needs_index = True

    def __init__(self, values):
        super().__init__()
        self.table = torch.nn.Parameter(values)

    def values(self, index, step):
        return self.table[index]

    def range(self):
        return 0.05, 1.0


class Shared(PerSample):
    """One learned value, to differentiate through."""

    granularity = "global"
    needs_index = False

    def values(self, index, step):
        return self.table


def embeddings(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(N, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), (0.5 * x.detach() + y).requires_grad_()


LOSSES = {
    "infonce": lambda tau, **kw: tt.InfoNCE(tau, **kw),
    "infonce-x2y": lambda tau, **kw: tt.InfoNCE(tau, directions="x2y", **kw),
    "infonce-y2x": lambda tau, **kw: tt.InfoNCE(tau, directions="y2x", **kw),
    "infonce-equalized": lambda tau, **kw: tt.InfoNCE(tau, force="equalized", **kw).eval(),
    "infonce-weighted": lambda tau, **kw: tt.InfoNCE(
        tau, weight=1 / tt.ClusterShift(COUNTS, 0.2, 0.9), **kw
    ),
    "dcl": lambda tau, **kw: tt.DCL(tau, **kw),
    "siglip": lambda tau, **kw: tt.SigLIP(tau, bias=tt.Learnable(-1.0, -5.0, 5.0), **kw),
    "max-margin": lambda tau, **kw: tt.MaxMargin(tau, **kw),
    "max-margin-equalized": lambda tau, **kw: tt.MaxMargin(tau, force="equalized", **kw).eval(),
}


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shared", [False, True])
def test_gradcheck(name, tile, shared):
    values = torch.linspace(0.2, 0.6, 1 if shared else 5, dtype=torch.float64)
    tau = Shared(values) if shared else PerSample(values)
    loss_fn = LOSSES[name](tau, tile=tile).double()
    parameter = tau.table
    x, y = embeddings()

    def value(x, y, parameter_value):
        return torch.func.functional_call(
            loss_fn,
            {"strength.table": parameter_value},
            (x, y, INDEX),
        )

    # the number of violated hinges has no gradient, so where it divides the loss it is a constant
    inputs = (x, y, parameter.detach().clone().requires_grad_(name != "infonce-equalized"))
    assert torch.autograd.gradcheck(value, inputs, eps=1e-6, atol=1e-7)


def test_equalized_infonce_treats_the_factor_as_a_constant():
    table = torch.linspace(0.2, 0.6, 5, dtype=torch.float64)
    x, y = (part.detach() for part in embeddings())
    tau = PerSample(table.clone())
    tt.InfoNCE(tau, reduction="sum")(x, y, torch.arange(5)).backward()
    equal = PerSample(table.clone())
    loss_fn = tt.InfoNCE(equal, force="equalized", reduction="sum")
    loss_fn(x, y, torch.arange(5)).backward()
    torch.testing.assert_close(equal.table.grad, tau.table.grad * table / table.mean())


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("name", ["infonce", "dcl", "siglip", "max-margin"])
def test_gradcheck_with_ignored_pairs(name, tile):
    loss_fn = LOSSES[name](0.3, tile=tile).double()
    same = (torch.tensor([0, 1, 0, 2, 3]), torch.tensor([0, 1, 2, 3, 1]))
    ignore = torch.zeros(N, N, dtype=torch.bool)
    ignore[0, 3] = ignore[4, 2] = True
    assert torch.autograd.gradcheck(
        lambda x, y: loss_fn(x, y, same=same, ignore=ignore), embeddings(), eps=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
@pytest.mark.parametrize("name", ["infonce", "dcl", "siglip"])
def test_gradcheck_with_labels(name, tile):
    loss_fn = LOSSES[name](0.3, tile=tile).double()
    labels = torch.tensor([0, 1, 0, 2, 1])
    assert torch.autograd.gradcheck(
        lambda x, y: loss_fn(x, y, labels=labels), embeddings(), eps=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("tile", ["dense", (2, 3)])
def test_gradcheck_without_normalisation_and_with_permuted_positives(tile):
    loss_fn = tt.InfoNCE(PerSample(torch.linspace(0.2, 0.6, 5)), normalize=False, tile=tile)
    loss_fn = loss_fn.double()
    positives = torch.tensor([2, 0, 1, 4, 3])
    assert torch.autograd.gradcheck(
        lambda x, y: loss_fn(x, y, INDEX, positives=positives), embeddings(), eps=1e-6, atol=1e-7
    )
