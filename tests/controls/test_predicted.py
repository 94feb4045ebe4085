"""TempNet and TaU: the published formulas in numpy, and whose gradient goes where."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt

N, DIM, RHO = 6, 4, 0.7
INDEX = torch.tensor([4, 0, 5, 2, 1, 3])
TILES = ["dense", (4, 3)]


class Fixed(tt.Control):
    """Temperatures (N,) of the anchors of each direction that depend on nothing."""

    granularity = "anchor"

    def __init__(self, tau):
        super().__init__()
        self.tau = tau

    def on(self, anchors):
        return self.tau[anchors.direction]

    def range(self):
        return 0.01, 10.0


def batch(n=N, d=DIM, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = 0.6 * x + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), y.requires_grad_()


def network(dim=DIM, **options):
    """A TempNet with other weights than at the start, without dropout unless asked."""
    settings = {"rho": RHO, "tau_range": (0.1, 0.9), "prototypes": 5, "dropout": 0.0, **options}
    torch.manual_seed(0)
    control = tt.TempNet(dim, **settings).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in control.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise if "sharpness" not in name else 3.0 + 0.1 * noise)
    return control


def uncertain(dim=DIM):
    torch.manual_seed(0)
    control = tt.TaU(dim, 0.2).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in control.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.3 * noise)
    return control


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def tempnet(state, embeddings, low, high):
    """The published network in eval mode, one embedding after the other."""
    w, c = state["project.weight"], state["project.bias"]
    phi, out = math.exp(float(state["log_sharpness"][0])), []
    for z in embeddings:
        a = sigmoid(w @ (z / np.linalg.norm(z)) + c)
        q = np.array([a @ (mu / np.linalg.norm(mu)) for mu in state["prototypes"]])
        shares = np.exp(q / phi) / np.exp(q / phi).sum()
        r = state["weight"] @ ((shares - 1 / len(q)) * sigmoid(q)) + state["bias"][0]
        out.append(low + (high - low) * sigmoid(r))
    return np.array(out)


def numpy_state(control, side):
    return {k: v.numpy() for k, v in control.networks[side].state_dict().items()}


def robust_gradient(s, tau, rho):
    """G_i of the anchors in the rows of s, by a loop."""
    n, out = len(s), np.zeros(len(s))
    for i in range(n):
        z = [(s[i, j] - s[i, i]) / tau[i] for j in range(n) if j != i]
        g = sum(math.exp(v) for v in z) / (n - 1)
        mean = sum(math.exp(v) / g * v for v in z) / (n - 1)
        out[i] = math.log(g) + rho - mean
    return out


def cosines(x, y):
    return (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).detach().numpy()


def taught(control, x, y, factors=None):
    """The gradient of the parameters: that of mean_i sg[f_i·G_i]·τ_i over both directions."""
    s, total = cosines(x, y), 0.0
    for side, rows, z in (("x2y", s, x), ("y2x", s.T, y)):
        tau = control.predict(z, side)
        gradient = torch.from_numpy(robust_gradient(rows, tau.detach().numpy(), RHO))
        factor = 1.0 if factors is None else factors[side]
        total = total + (factor * gradient * tau).sum() / (2 * N)
    return torch.autograd.grad(total, list(control.parameters()))


LOSSES = {
    "sogclr": lambda control, **kw: tt.SogCLR(N, control, gamma=1.0, **kw),
    "dcl": lambda control, **kw: tt.DCL(control, **kw),
    "infonce": lambda control, **kw: tt.InfoNCE(control, **kw),
    "infonce-reweighted": lambda control, **kw: tt.InfoNCE(control, force="reweighted", **kw),
}


def build(name, control, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tt.CompositionWarning)
        return LOSSES[name](control, **options)


@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("side", ["x2y", "y2x"])
def test_tempnet_is_the_published_network(side, start):
    torch.manual_seed(0)
    control = tt.TempNet(DIM, tau_range=(0.1, 0.9), prototypes=5).double() if start else network()
    x, _ = batch()
    found = control.eval().predict(x, side).detach()
    expected = tempnet(numpy_state(control, side), x.detach().numpy(), 0.1, 0.9)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-9, atol=1e-12)


def test_tempnet_starts_as_published():
    control = tt.TempNet(DIM)
    assert control.range() == (0.005, 0.05)
    for side in ("x2y", "y2x"):
        state = numpy_state(control, side)
        assert math.exp(float(state["log_sharpness"][0])) == pytest.approx(0.01)
        assert state["prototypes"].shape == (256, DIM)
        assert state["prototypes"].std() == pytest.approx(1.0, abs=0.1)
        assert (state["weight"] == 1).all()
        assert state["bias"] == 0
    names = {name for name, _ in control.named_parameters()}
    assert {name.split(".", 2)[2] for name in names} == {
        "project.weight",
        "project.bias",
        "prototypes",
        "log_sharpness",
        "weight",
        "bias",
    }


def test_dropout_acts_in_training_only():
    control = network(dropout=0.5)
    x, _ = batch()
    torch.manual_seed(3)
    first, second = control.predict(x), control.predict(x)
    assert not torch.equal(first, second)
    control.eval()
    assert torch.equal(control.predict(x), control.predict(x))
    torch.testing.assert_close(control.predict(x), network().predict(x))


def test_the_loss_sees_one_dropout_mask_in_a_pass():
    x, y = batch()
    loss_fn = build("dcl", network(dropout=0.5), directions="x2y", reduction="none")
    torch.manual_seed(3)
    found = loss_fn(x, y)
    tau = loss_fn.last_tau[1]
    fixed = tt.DCL(Fixed({"x2y": tau, "y2x": tau}), directions="x2y", reduction="none")
    torch.testing.assert_close(found, fixed(x, y))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", LOSSES)
def test_the_parameters_have_the_robust_gradient_alone(name, tile):
    x, y = batch()
    control = network()
    loss_fn = build(name, control, tile=tile)
    loss_fn(x, y, INDEX).backward()
    found = {k: p.grad for k, p in control.named_parameters()}

    expected = taught(control, x, y)
    for (key, value), wanted in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-8, atol=1e-12, msg=lambda m, k=key: k + m)
    assert all(float(value.abs().max()) > 0 for value in found.values())


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_the_encoder_sees_a_constant_temperature(name, training, tile):
    x, y = batch()
    control = network()
    tau = {"x2y": control.predict(x, "x2y").detach(), "y2x": control.predict(y, "y2x").detach()}
    loss_fn = build(name, control, tile=tile).train(training)
    fixed = Fixed(tau)
    constant = tt.SogCLR(N, fixed, 1.0, RHO) if name == "sogclr" else LOSSES[name](fixed)
    value, expected = loss_fn(x, y, INDEX), constant(x, y, INDEX)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(value, (x, y)),
        torch.autograd.grad(expected, (x, y)),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("tile", TILES)
def test_with_a_moving_average_the_gradient_has_its_partition(tile):
    """log u and the weights are those of the average, the shifts h those of the batch."""
    x, y = batch()
    control = network()
    loss_fn = tt.SogCLR(N, control, gamma=0.4, tile=tile)
    loss_fn(*batch(seed=7), INDEX)
    loss_fn.step()
    old = {d: loss_fn.tables[d].read(INDEX)["log_u"].double().numpy() for d in ("x2y", "y2x")}
    loss_fn(x, y, INDEX).backward()
    found = {k: p.grad for k, p in control.named_parameters()}

    s, total = cosines(x, y), 0.0
    for side, rows, z in (("x2y", s, x), ("y2x", s.T, y)):
        tau = control.predict(z, side)
        for i in range(N):
            t = float(tau[i].detach())
            h = [(rows[i, j] - rows[i, i]) / t for j in range(N) if j != i]
            g = np.exp(h).mean()
            u = 0.6 * math.exp(old[side][i]) + 0.4 * g
            gradient = math.log(u) + RHO - float(np.mean(np.exp(h) / u * np.array(h)))
            total = total + gradient * tau[i] / (2 * N)
    expected = torch.autograd.grad(total, list(control.parameters()))
    for (key, value), wanted in zip(found.items(), expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-8, msg=lambda m, k=key: k + m)


@pytest.mark.parametrize("name", ["infonce", "dcl"])
def test_evaluation_teaches_nothing(name):
    x, y = batch()
    control = network()
    build(name, control).eval()(x, y, INDEX).backward()
    assert all(p.grad is None or not bool(p.grad.any()) for p in control.parameters())


def test_weights_and_an_equalized_force_scale_what_each_anchor_teaches():
    x, y = batch()
    control = network()
    weight = tt.ClusterShift([1, 5, 9, 2, 7, 3], 0.5, 2.0)
    tau = {"x2y": control.predict(x, "x2y").detach(), "y2x": control.predict(y, "y2x").detach()}
    mean = torch.cat(list(tau.values())).mean()
    each = weight.double().at(INDEX).double()
    factors = {side: each * values / mean for side, values in tau.items()}
    loss_fn = tt.DCL(control, force="equalized", weight=weight)
    loss_fn(x, y, INDEX).backward()
    expected = taught(control, x, y, factors)
    for parameter, wanted in zip(control.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-6, atol=1e-10)


def test_the_network_may_have_a_learning_rate_of_its_own():
    x, y = (torch.nn.Parameter(v.detach()) for v in batch())
    loss_fn = tt.SogCLR(N, network(), gamma=1.0)
    own = list(loss_fn.strength.parameters())
    assert {id(p) for p in own} == {id(p) for p in loss_fn.parameters()}
    optimizer = torch.optim.SGD([{"params": [x, y]}, {"params": own, "lr": 0.25}], lr=0.5)
    before = [p.detach().clone() for p in (x, y, *own)]
    loss_fn(x, y, INDEX).backward()
    optimizer.step()
    for at, (old, parameter) in enumerate(zip(before, (x, y, *own), strict=True)):
        rate = 0.5 if at < 2 else 0.25
        torch.testing.assert_close(parameter.detach(), old - rate * parameter.grad)


def test_one_network_may_serve_both_sides():
    shared, separate = network(shared=True), network()
    x, _ = batch()
    assert torch.equal(shared.predict(x, "x2y"), shared.predict(x, "y2x"))
    assert not torch.equal(separate.predict(x, "x2y"), separate.predict(x, "y2x"))
    assert 2 * len(list(shared.parameters())) == len(list(separate.parameters()))
    fresh = network(shared=True, prototypes=5)
    with torch.no_grad():
        fresh.networks["x2y"].bias.add_(1.0)
    fresh.load_state_dict(shared.state_dict())
    assert torch.equal(fresh.predict(x, "y2x"), shared.predict(x, "y2x"))


@pytest.mark.parametrize("make", [network, uncertain])
def test_sides_of_different_width(make):
    control = make((DIM, 7))
    x, y = batch()[0], batch(d=7)[1]
    assert control.predict(x).shape == control.predict(y, "y2x").shape == (N,)
    low, high = control.range()
    for tau in (control.predict(x), control.predict(y, "y2x")):
        assert bool(((tau > low) & (tau < high)).all())


def saturated(control, value):
    with torch.no_grad():
        for name, parameter in control.named_parameters():
            if name.endswith("bias") and "project" not in name:
                parameter.fill_(value)
    return control


@pytest.mark.parametrize("value", [-1e6, -100.0, -40.0, 40.0, 100.0, 1e6])
@pytest.mark.parametrize(
    "make",
    [lambda: tt.TempNet(DIM, RHO, (0.1, 0.9), dropout=0.0), lambda: tt.TaU(DIM, 0.2)],
    ids=["tempnet", "tau"],
)
def test_at_saturation_values_stay_in_range_and_gradients_finite(make, value):
    control = saturated(make(), value)
    x, y = (v.detach().float().requires_grad_() for v in batch())
    loss_fn = build("infonce", control)
    loss_fn(x, y).backward()
    low, high = control.range()
    tau = loss_fn.last_tau[1]
    assert low - 1e-7 <= float(tau.min()) <= float(tau.max()) <= high + 1e-7
    for tensor in (x, y, *control.parameters()):
        assert bool(tensor.grad.isfinite().all())


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e15])
@pytest.mark.parametrize("make", [network, uncertain])
def test_huge_and_vanishing_embeddings(make, scale):
    control = make().float()
    x, y = ((scale * v.detach()).float().requires_grad_() for v in batch())
    loss_fn = build("infonce", control)
    loss_fn(x, y).backward()
    low, high = control.range()
    tau = loss_fn.last_tau[1]
    assert low - 1e-7 <= float(tau.min()) <= float(tau.max()) <= high + 1e-7
    for tensor in (x, y, *control.parameters()):
        assert bool(tensor.grad.isfinite().all())


@pytest.mark.parametrize("tile", TILES)
def test_t10_an_uncertainty_of_zero_doubles_the_temperature(tile):
    x, y = batch()
    loss_fn = tt.InfoNCE(tt.TaU(DIM), tile=tile)
    found = loss_fn(x, y, INDEX)
    assert loss_fn.last_tau[1].tolist() == pytest.approx([0.14] * N, abs=1e-6)
    assert torch.equal(loss_fn.last_tau[0], INDEX)
    torch.testing.assert_close(found, tt.InfoNCE(0.14)(x, y), rtol=1e-5, atol=1e-6)


def tau_loss(x, y, control):
    """The published loss: logits of anchor i times q_i/t, the positive not in the denominator."""
    total = 0.0
    for side, own, other in (("x2y", x, y), ("y2x", y, x)):
        head = control.heads[side]
        for i in range(N):
            q = torch.sigmoid(head.weight[0] @ own[i] + head.bias[0]) / control.value
            s = [F.cosine_similarity(own[i], other[j], dim=0) for j in range(N)]
            negatives = sum(torch.exp(s[j] * q) for j in range(N) if j != i)
            total = total - torch.log(torch.exp(s[i] * q) / negatives) / (2 * N)
    return total


@pytest.mark.parametrize("tile", TILES)
def test_tau_is_the_literal_loop_with_its_gradient(tile):
    x, y = batch()
    control = uncertain()
    with pytest.warns(tt.CompositionWarning, match="lower bound"):
        loss_fn = tt.DCL(control, tile=tile)
    found, expected = loss_fn(x, y), tau_loss(x, y, control)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)
    inputs = (x, y, *control.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs),
        torch.autograd.grad(expected, inputs),
        rtol=1e-8,
        atol=1e-10,
    )


def test_tau_never_exceeds_its_bound():
    control = saturated(tt.TaU(DIM, 0.07, high=1.0), -6.0)
    x, _ = batch()
    assert control.predict(x).tolist() == pytest.approx([1.0] * N)
    assert control.range() == (0.07, 1.0)


@pytest.mark.parametrize("make", [network, uncertain])
def test_unseen_samples_have_a_temperature_and_ids_have_none(make):
    control = make()
    x, y = batch()
    loss_fn = build("infonce", control)
    for ask in (control.at, loss_fn.tau, lambda i: control.mean(i, 2)):
        with pytest.raises(ValueError, match=r"follows from the batch.*read loss_fn\.last_tau"):
            ask(INDEX)
    loss_fn(x, y)
    assert torch.equal(loss_fn.last_tau[1], control.predict(x).detach())
    assert not loss_fn.last_tau[1].requires_grad
    reverse = build("infonce", control, directions="y2x")
    reverse(x, y)
    assert torch.equal(reverse.last_tau[1], control.predict(y, "y2x").detach())


@pytest.mark.parametrize("make", [network, uncertain])
def test_state_survives_a_checkpoint(make):
    control, fresh = make(), make()
    with torch.no_grad():
        for parameter in control.parameters():
            parameter.mul_(1.5)
    control.step()
    fresh.load_state_dict(control.state_dict())
    x, _ = batch()
    assert torch.equal(fresh.predict(x), control.predict(x))
    assert fresh.steps == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.TempNet(DIM, tau_range=(0.05, 0.05)), r"0 < low < high, got \(0.05, 0.05\)"),
        (lambda: tt.TempNet(DIM, tau_range=(0.0, 0.05)), "0 < low < high"),
        (lambda: tt.TempNet(DIM, tau_range=(0.1, math.inf)), "tau_range must be a finite number"),
        (lambda: tt.TempNet(DIM, rho=0.0), "rho must be > 0, got 0.0"),
        (lambda: tt.TempNet(DIM, rho=math.nan), "rho must be a finite number, got nan"),
        (lambda: tt.TempNet(0), "dim must be a whole number, at least 1, got 0"),
        (lambda: tt.TempNet((DIM, 0)), "dim must be a whole number, at least 1, got 0"),
        (lambda: tt.TempNet(DIM, prototypes=1), "prototypes >= 2.*got 1, 0.5"),
        (lambda: tt.TempNet(DIM, dropout=1.0), r"dropout in \[0, 1\), got 256, 1.0"),
        (lambda: tt.TempNet((4, 5), shared=True), r"one width for both sides, got \(4, 5\)"),
        (lambda: tt.TaU(DIM, 0.0), "0 < 2·value < high, got value=0.0, high=10"),
        (lambda: tt.TaU(DIM, 0.5, high=1.0), "0 < 2·value < high, got value=0.5, high=1"),
        (lambda: tt.TaU(DIM, 0.1, high=math.inf), "high must be a finite number, got inf"),
        (lambda: tt.TaU(0), "dim must be a whole number, at least 1, got 0"),
        (lambda: tt.TaU((3, -1)), "dim must be a whole number, at least 1, got -1"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.filterwarnings("ignore:.*is doubtful:tauten.CompositionWarning")
@pytest.mark.parametrize("make", [lambda: tt.TempNet(4), lambda: tt.TaU(4)])
def test_the_network_of_a_side_that_is_not_used_rests(make):
    """Data parallelism waits for each parameter that asks for a gradient."""

    def learning(control):
        return {name.split(".")[1] for name, p in control.named_parameters() if p.requires_grad}

    control = make()
    tt.DCL(control + 0.0, directions="x2y")
    assert learning(control) == {"x2y"}
    tt.DCL(control, directions="y2x")
    assert learning(control) == {"x2y", "y2x"}
    both, frozen = make(), make().requires_grad_(False)
    tt.DCL(both)
    tt.DCL(both, directions="x2y")
    assert learning(both) == {"x2y", "y2x"}
    tt.DCL(frozen, directions="x2y"), tt.DCL(frozen)
    assert learning(frozen) == set()
    make().load_state_dict(control.state_dict())
    shared = tt.TempNet(4, shared=True)
    tt.DCL(shared, directions="y2x")
    assert all(p.requires_grad for p in shared.parameters())
