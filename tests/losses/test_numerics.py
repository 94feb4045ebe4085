"""Finite where τ is small, precise where the input is not, and small in memory."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

import tauten as tt

B, D = 96, 32
LOSSES = {
    "infonce": lambda tau, tile: tt.InfoNCE(tau, tile=tile),
    "dcl": lambda tau, tile: tt.DCL(tau, tile=tile),
    "siglip": lambda tau, tile: tt.SigLIP(tau, tile=tile),
    "max-margin": lambda tau, tile: tt.MaxMargin(tau, tile=tile),
}
EMBEDDINGS = {
    "random": lambda: F.normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(0))),
    "all-equal": lambda: torch.ones(B, D),
    "orthogonal": lambda: torch.eye(B),
    "opposite": lambda: torch.cat([torch.ones(B // 2, D), -torch.ones(B // 2, D)]),
}


@pytest.mark.parametrize("tile", ["dense", 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_finite_at_a_very_small_temperature(name, kind, dtype, tile):
    x = EMBEDDINGS[kind]().to(dtype).requires_grad_()
    y = EMBEDDINGS[kind]().flip(0).to(dtype).requires_grad_()
    loss = LOSSES[name](0.005, tile)(x, y)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(y.grad).all()


@pytest.mark.parametrize("tau", [0.005, 0.07])
def test_tiled_float32_is_as_good_as_float64(tau):
    x = EMBEDDINGS["random"]()
    y = F.normalize(x + 0.1 * torch.randn(B, D, generator=torch.Generator().manual_seed(1)))
    a, b = (part.clone().requires_grad_() for part in (x, y))
    c, d = (part.double().requires_grad_() for part in (x, y))
    single, double = tt.InfoNCE(tau, tile=40)(a, b), tt.InfoNCE(tau, tile="dense")(c, d)
    single.backward()
    double.backward()
    assert float(single.detach()) == pytest.approx(float(double.detach()), rel=1e-4, abs=1e-5)
    torch.testing.assert_close(a.grad.double(), c.grad, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(b.grad.double(), d.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("tile", ["dense", 40])
def test_the_loss_of_won_pairs_keeps_its_digits(tile):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(B, 128, generator=generator)
    y = x + 0.01 * torch.randn(B, 128, generator=generator)
    sides = [part.clone().requires_grad_() for part in (x, y)]
    exact = [part.double().requires_grad_() for part in (x, y)]
    loss = tt.InfoNCE(0.04, tile=tile)(*sides)
    loss.backward()
    s = F.normalize(exact[0], dim=1) @ F.normalize(exact[1], dim=1).T / 0.04
    own = s.diagonal()
    apart = s.masked_fill(torch.eye(B, dtype=torch.bool), -float("inf"))
    expected = (F.softplus(apart.logsumexp(d) - own).mean() for d in (1, 0))
    expected = sum(expected) / 2
    expected.backward()
    assert 0 < float(expected.detach()) < 1e-5
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    for part, wanted in zip(sides, exact, strict=True):
        gap = (part.grad.double() - wanted.grad).abs().max()
        assert float(gap) < 1e-3 * float(wanted.grad.abs().max())


@pytest.mark.parametrize("tile", ["dense", 40])
def test_won_pairs_of_a_sigmoid_keep_their_digits(tile):
    x = torch.eye(4).requires_grad_()
    loss = tt.SigLIP(0.05, -10.0, directions="x2y", tile=tile)(x, torch.eye(4))
    expected = math.log1p(math.exp(-10.0)) + 3 * math.log1p(math.exp(-10.0))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("tile", ["dense", 40])
@pytest.mark.parametrize("factor", [1e20, 1e37, 1e-25, 1e-38])
def test_rows_of_any_length_have_their_direction(factor, tile):
    x = EMBEDDINGS["random"]()
    y = F.normalize(x + 0.5 * EMBEDDINGS["random"]().flip(0))
    plain, sized = x.clone().requires_grad_(), (x * factor).requires_grad_()
    loss_fn = tt.InfoNCE(0.1, tile=tile)
    expected, found = loss_fn(plain, y), loss_fn(sized, y * factor)
    expected.backward()
    found.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    gradient = sized.grad.double() * factor
    torch.testing.assert_close(gradient, plain.grad.double(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("tile", ["dense", 40])
def test_a_row_of_zeros_is_orthogonal_to_all_and_has_no_gradient(tile):
    x, y = EMBEDDINGS["random"](), EMBEDDINGS["random"]().flip(0)
    x[3] = 0
    x.requires_grad_()
    loss = tt.InfoNCE(0.1, tile=tile)(x, y)
    loss.backward()
    s = (F.normalize(x.detach(), dim=1) @ y.T).double() / 0.1
    expected = (F.cross_entropy(s, torch.arange(B)) + F.cross_entropy(s.T, torch.arange(B))) / 2
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    assert not x.grad[3].any()
    assert float(x.grad.norm(dim=1).max()) < 1


COUNTS = [1, 30, 500, 7000]
SHIFT = [0.01 + 0.08 * (n - 1) / 6999 for n in COUNTS]


def plain(tau, x, y):
    """InfoNCE of float64 rows with a temperature (n,) or () of the anchors, in torch's words."""
    tau = torch.as_tensor(tau, dtype=torch.float64)
    s, ids = x @ y.T, torch.arange(len(x))
    rows, cols = (F.cross_entropy(m / tau[..., None], ids) for m in (s, s.T))
    return (rows + cols) / 2


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (tt.Constant(0.07), 0.07),
        (tt.Cosine(0.05, 0.07, 9), 0.07),
        (tt.Anneal(0.07, 1, 9), 0.07),
        (tt.ClusterShift(COUNTS, 0.01, 0.09), SHIFT),
        (tt.ClusterShift((COUNTS, COUNTS), 0.01, 0.09), SHIFT),
        (tt.ClusterShift(COUNTS, 0.01, 0.09).double(), SHIFT),
        (2 * tt.mmts(COUNTS, 0.01, (0.01, 0.09), 9) - 0.003, [2 * s + 0.007 for s in SHIFT]),
    ],
    ids=str,
)
def test_float64_embeddings_have_a_float64_temperature(tau, expected):
    x, y = (side[:4].double() for side in (EMBEDDINGS["random"](), EMBEDDINGS["random"]().flip(0)))
    found = tt.InfoNCE(tau, normalize=False)(x, y, torch.arange(4))
    assert float(found) == pytest.approx(float(plain(expected, x, y)), rel=1e-13)


def test_float64_embeddings_have_numbers_of_learned_parameters_in_float64():
    """With the digits that float32 parameters have."""
    x, y = (side[:4].double() for side in (EMBEDDINGS["random"](), EMBEDDINGS["random"]().flip(0)))
    one = tt.Learnable(0.07, 0.01, 1.0)
    expected = plain(one.parameter.detach().double().exp()[0], x, y)
    found = tt.InfoNCE(one, normalize=False)(x, y).detach()
    assert float(found) == pytest.approx(float(expected), rel=1e-13)
    sure = tt.TaU(x.shape[1])
    with torch.no_grad():
        for head in sure.heads.values():
            head.weight.normal_(generator=torch.Generator().manual_seed(0))
    head = sure.heads["x2y"]
    logit = (x @ head.weight.double().T).squeeze(1) + head.bias.double()
    torch.testing.assert_close(sure.predict(x), 0.07 * (1 + (-logit).exp()), rtol=1e-13, atol=0.0)
    net = tt.TempNet(x.shape[1], prototypes=5, dropout=0.0)
    torch.testing.assert_close(net.predict(x), copy.deepcopy(net).double().predict(x))
    assert net.predict(x.float()).dtype == torch.float32


def test_float64_embeddings_have_averages_in_float64():
    """u = (1 − γ)·u₀ + γ·g, u₀ as the table keeps it."""
    x, y = (side[:4].double() for side in (EMBEDDINGS["random"](), EMBEDDINGS["random"]().flip(0)))
    ids = torch.arange(4)
    for gamma in (tt.Constant(0.3), 0.6 * tt.Anneal(1.0, 0.5, 1.0), tt.Anneal(1.0, 0.3, 1.0)):
        loss_fn = tt.SogCLR(4, 0.07, gamma, directions="x2y", normalize=False)
        loss_fn(x, y.flip(0), ids)
        loss_fn.step()
        old = loss_fn.tables.of("x2y").read(ids)["log_u"].double().exp()
        s = x @ y.T
        off = ~torch.eye(4, dtype=torch.bool)
        g = ((s - s.diag()[:, None]) / 0.07).exp()[off].view(4, 3).mean(1)
        expected = 0.07 * (0.7 * old + 0.3 * g).log().mean()
        assert float(loss_fn(x, y, ids)) == pytest.approx(float(expected), rel=1e-12)
    loss_fn = tt.FastCLIP(4, "v1", 1.0, epsilon=0.1, directions="x2y", normalize=False)
    expected = 0.07 * (0.1 + g).log().mean()
    assert float(loss_fn(x, y, ids)) == pytest.approx(float(expected), rel=1e-12)


def test_one_pair_alone_loses_nothing():
    x = EMBEDDINGS["random"]()[:1].requires_grad_()
    for tile in ("dense", 40):
        loss = tt.InfoNCE(0.1, tile=tile)(x, x.detach().flip(1))
        loss.backward()
        assert float(loss.detach()) == 0.0
        assert not x.grad.any()


@pytest.mark.parametrize("tile", ["dense", 40])
@pytest.mark.parametrize("name", LOSSES)
def test_autocast_does_not_reach_the_reductions(name, tile):
    x, y = EMBEDDINGS["random"](), EMBEDDINGS["random"]().flip(0)
    loss_fn = LOSSES[name](0.02, tile)
    plain = loss_fn(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = loss_fn(x, y)
    assert float(under_autocast) == float(plain)


def test_bfloat16_inputs_are_reduced_in_float32():
    x, y = (EMBEDDINGS["random"]().to(torch.bfloat16), EMBEDDINGS["random"]().to(torch.bfloat16))
    found = tt.InfoNCE(0.02, tile=40)(x, y.flip(0))
    expected = tt.InfoNCE(0.02, tile="dense")(x.double(), y.double().flip(0))
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_saved_bytes_grow_with_the_batch_and_not_with_its_square(name):
    counts = torch.arange(1, 2049)

    def saved(batch):
        tau = tt.mmts(counts, alpha=0.02, shift=(0.05, 0.2), period=10)
        x = torch.randn(batch, D, requires_grad=True)
        y = torch.randn(batch, D, requires_grad=True)
        seen = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            loss = LOSSES[name](tau, 128)(x, y, torch.arange(batch))
        loss.backward()
        return sum(seen.values())

    small, large = saved(512), saved(2048)
    assert large <= 4.1 * small
    assert large <= 16 * 2048 * D * 4
