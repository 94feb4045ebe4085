"""Second derivatives, transforms of torch.func, and gradients that tiles would lose."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.controls.base import BatchControl
from tauten.pairwise import PairNumber, Reduction, Scaled, reduce_dense, reduce_tiled

N, TAU = 6, 0.125
IDS = torch.arange(N)


def sides():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(N, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), y.requires_grad_()


def plain(x, y):
    """InfoNCE in torch's own words."""
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / TAU
    return (F.cross_entropy(s, IDS) + F.cross_entropy(s.T, IDS)) / 2


def penalty(loss_fn, x, y):
    """The gradient of a gradient penalty."""
    (first,) = torch.autograd.grad(loss_fn(x, y), x, create_graph=True)
    return torch.autograd.grad(first.square().sum(), x)[0]


def test_the_second_derivative_is_that_of_the_formula():
    x, y = sides()
    torch.testing.assert_close(penalty(tt.InfoNCE(TAU), x, y), penalty(plain, x, y))


def test_the_second_derivative_of_a_side_with_itself():
    x, _ = sides()
    other = IDS.roll(1)

    def of_one(x, _):
        s = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T / TAU
        return F.cross_entropy(s, other)

    loss_fn = tt.InfoNCE(TAU, directions="x2y")
    found = penalty(lambda x, _: loss_fn(x, x, positives=other), x, None)
    torch.testing.assert_close(found, penalty(of_one, x, None))


LOSSES = {
    "infonce": tt.InfoNCE(0.2),
    "learned": tt.InfoNCE(tt.Learnable(0.2, 0.1, 1.0)),
    "reweighted": tt.InfoNCE(0.2, force="reweighted"),
    "pairs": tt.InfoNCE(tt.TeMo(0.1, 0.3)),
    "dcl": tt.DCL(0.2),
    "siglip": tt.SigLIP(0.2, -1.0),
    "max-margin": tt.MaxMargin(0.3),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("relation", [{}, {"same": IDS // 2}], ids=["plain", "same"])
def test_gradgradcheck(name, relation):
    loss_fn = LOSSES[name]
    assert torch.autograd.gradgradcheck(lambda x, y: loss_fn(x, y, **relation), sides())


def test_gradgradcheck_with_labels():
    labels = torch.tensor([0, 1, 0, 2, 1, 1])
    assert torch.autograd.gradgradcheck(
        lambda x, y: LOSSES["infonce"](x, y, labels=labels), sides()
    )


@pytest.mark.parametrize("further", [0.0, 0.1], ids=["alone", "beside another term"])
def test_tiles_refuse_second_derivatives(further):
    loss_fn = tt.InfoNCE(TAU, tile=3)
    with pytest.raises(RuntimeError, match="first derivatives only.*tile='dense'"):
        penalty(lambda x, y: loss_fn(x, y) + further * x.pow(3).sum(), *sides())


ESTIMATORS = {
    "SogCLR": lambda: tt.SogCLR(N),
    "NUCLR": lambda: tt.NUCLR(N),
    "InfoNCE with TempNet": lambda: tt.InfoNCE(tt.TempNet(4, prototypes=5, dropout=0.0)),
}


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.filterwarnings("ignore::tauten.losses.composition.CompositionWarning")
def test_the_gradient_of_an_estimator_has_no_derivative(name):
    loss_fn = ESTIMATORS[name]().double()
    with pytest.raises(RuntimeError, match=f"{name}.*no second derivative"):
        penalty(lambda x, y: loss_fn(x, y, IDS), *sides())


def test_a_transform_of_torch_func_gives_the_gradient_or_is_refused():
    x, y = sides()
    found = torch.func.grad(tt.InfoNCE(TAU))(x.detach(), y.detach())
    torch.testing.assert_close(found, torch.autograd.grad(plain(x, y), x)[0])
    with pytest.raises(RuntimeError, match="no torch.func"):
        torch.func.grad(tt.InfoNCE(TAU, tile=3))(x.detach(), y.detach())
    with pytest.raises(RuntimeError, match="no torch.func"):
        torch.func.grad(tt.SogCLR(N))(x.detach(), y.detach(), IDS)


FORWARD = {
    **LOSSES,
    "dclw": tt.DCLW(0.2),
    "robust": tt.InfoNCE(0.2, reduction=tt.DRO(0.5)),
    "alignment": tt.InfoNCE(tt.MACL(0.2)),
    "equalized": tt.MaxMargin(0.3, force="equalized"),
    "smoothed": tt.InfoNCE(0.2, label_smoothing=0.1),
}


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_a_forward_derivative_is_that_of_the_gradient(name):
    """What the gradient holds fixed is fixed here, too."""
    x, y = sides()
    loss_fn, along = FORWARD[name], torch.ones(N, 4, dtype=torch.float64).cumsum(1)
    (gradient,) = torch.autograd.grad(loss_fn(x, y), x)
    _, found = torch.func.jvp(lambda x: loss_fn(x, y.detach()), (x.detach(),), (along,))
    torch.testing.assert_close(found, (gradient * along).sum())


class Closed(BatchControl):
    """A temperature of pairs whose rule takes its parameter from around it."""

    granularity, learns = "pair", "gradient"

    def __init__(self, *, closed):
        super().__init__()
        self.closed = closed
        self.slope = torch.nn.Parameter(torch.tensor([0.3], dtype=torch.float64))

    def on(self, anchors):
        if self.closed:
            return PairNumber(lambda s: self.rule(s, self.slope))
        return PairNumber(self.rule, (self.slope.view(1, 1),))

    def rule(self, s, slope):
        return 0.1 + 0.2 * torch.sigmoid(slope * s.detach())

    def range(self):
        return 0.1, 0.3


def slope_of(*, closed, tile):
    control = Closed(closed=closed)
    tt.InfoNCE(control, tile=tile)(*sides()).backward()
    return control.slope.grad


def test_a_rule_that_takes_a_parameter_from_around_it_is_right_or_refused():
    right = slope_of(closed=True, tile="dense")
    assert float(right.abs()) > 1e-4
    torch.testing.assert_close(slope_of(closed=False, tile=(2, 3)), right)
    with pytest.raises(ValueError, match=r"none of its numbers.*tile='dense'"):
        slope_of(closed=True, tile=(2, 3))


def test_a_rule_on_frozen_embeddings_is_right_or_refused():
    """No embedding needs a gradient then, so that nothing goes back through the tiles."""
    x, y = (side.detach() for side in sides())
    found = {}
    for closed, tile in ((True, "dense"), (False, "dense"), (False, (2, 3))):
        control = Closed(closed=closed)
        tt.InfoNCE(control, tile=tile)(x, y).backward()
        found[closed, tile] = control.slope.grad
    right = found.pop((True, "dense"))
    assert all(torch.allclose(right, other) for other in found.values())
    with pytest.raises(ValueError, match=r"none of its numbers.*tile='dense'"):
        tt.InfoNCE(Closed(closed=True), tile=(2, 3))(x, y)
    with torch.no_grad():
        tt.InfoNCE(Closed(closed=True), tile=(2, 3))(x, y)


def test_a_number_with_further_dimensions_has_a_gradient_in_the_whole_matrix_only():
    x, y = sides()
    rows, cols = (torch.rand(1, N, 3, dtype=torch.float64) for _ in range(2))
    rows = rows.transpose(0, 1).requires_grad_()
    scale = PairNumber(lambda s, a, b: 1 + (a * b).sum(-1), (rows, cols))
    reduction = Reduction.of("rows", "sum", Scaled(), scale)
    (found,) = reduce_dense(x, y, [reduction])
    found.sum().backward()
    expected = torch.einsum("ij,jk->ik", x @ y.T, cols[0])
    torch.testing.assert_close(rows.grad[:, 0], expected.detach())
    with pytest.raises(ValueError, match=r"shape \(6, 1, 3\) needs a gradient"):
        reduce_tiled(x, y, [reduction], tile=(2, 3))


@pytest.mark.parametrize("tile", ["dense", 3])
@pytest.mark.parametrize("labels", [None, IDS % 3], ids=["single", "labels"])
def test_a_backward_pass_under_autocast_keeps_its_digits(tile, labels):
    found = []
    for enabled in (False, True):
        x, y = (side.detach().float().requires_grad_() for side in sides())
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            tt.InfoNCE(TAU, tile=tile)(x, y, labels=labels).backward()
        found.append((x.grad, y.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-7)
