"""FastCLIP's four objectives against literal loops, and the temperature gradient of v3."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt

TILES = ["dense", (2, 3)]
VERSIONS = ["v0", "v1", "v2", "v3"]
TAU, RHO = 0.25, 1.5
N = 6
ALL = torch.arange(N)


def embeddings(n=N, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = 0.6 * x + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x, y


def build(version, gamma=1.0, size=N, tau=TAU, epsilon=1e-14, **options):
    rho = RHO if version in ("v2", "v3") else None
    made = tt.FastCLIP(size, version, gamma, rho=rho, tau_init=tau, epsilon=epsilon, **options)
    return made.double()


def logs_and_tilts(s, tau):
    """log g of each anchor and E = mean of h/τ under its weights, by loops over pairs."""
    n = len(s)
    log_g, tilt = [], []
    for i in range(n):
        z = [(s[i, j] - s[i, i]) / tau for j in range(n) if j != i]
        exps = [math.exp(value) for value in z]
        log_g.append(math.log(sum(exps) / (n - 1)))
        tilt.append(sum(e * value for e, value in zip(exps, z, strict=True)) / sum(exps))
    return np.array(log_g), np.array(tilt)


@pytest.fixture
def t6():
    """The inputs of the published example: τ = 0.07, ρ = 6.5, γ = 1."""
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    image /= np.linalg.norm(image, axis=1, keepdims=True)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    return image, text


def test_t6_by_loops(t6):
    s = t6[0] @ t6[1].T
    (log_1, tilt_1), (log_2, tilt_2) = logs_and_tilts(s, 0.07), logs_and_tilts(s.T, 0.07)
    log_u, tilt = (log_1 + log_2).mean(), (tilt_1 + tilt_2).mean()
    assert log_u == pytest.approx(15.3454, abs=5e-5)
    assert tilt == pytest.approx(17.3199, abs=5e-5)
    assert log_u + 2 * 6.5 - tilt == pytest.approx(11.0255, abs=5e-5)
    assert log_u / 2 + 6.5 - tilt == pytest.approx(-3.1472, abs=5e-5)


@pytest.mark.parametrize("tile", TILES)
def test_t6_v3_has_the_true_gradient_of_the_temperature(t6, tile):
    """The published objective is the sum of both directions, ours their mean."""
    x, y = map(torch.tensor, t6)
    loss_fn = tt.FastCLIP(4, "v3", 1.0, tile=tile).double()
    loss_fn(x, y, torch.arange(4)).backward()
    parameter = loss_fn.strength.parameter
    found = 2 * float(parameter.grad) / float(parameter.detach().exp())
    (log_1, tilt_1), (log_2, tilt_2) = (
        logs_and_tilts(s, 0.07) for s in (t6[0] @ t6[1].T, t6[1] @ t6[0].T)
    )
    assert found == pytest.approx((log_1 + log_2 - tilt_1 - tilt_2).mean() + 13, rel=1e-6)
    assert found == pytest.approx(11.0255, abs=5e-5)
    assert abs(found - -3.1472) > 14


def literal(version, x, y, tau, epsilon=0.0):
    """The objective at γ = 1 for every anchor, both directions averaged; τ a number or (2, n)."""
    x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    n = len(x)
    tau = tau.expand(2, n)
    losses = []
    for i in range(n):
        parts = []
        for side, (anchors, keys) in enumerate(((x, y), (y, x))):
            t = tau[side, i]
            s = [anchors[i] @ keys[j] for j in range(n)]
            g = sum(torch.exp((s[j] - s[i]) / t) for j in range(n) if j != i) / (n - 1)
            log_u = torch.log(epsilon + g)
            value = {"v0": log_u, "v1": t * log_u}.get(version, t * log_u + RHO * t)
            parts.append(value)
        losses.append((parts[0] + parts[1]) / 2)
    return torch.stack(losses)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("epsilon", [0.0, 1e-14, 0.3])
@pytest.mark.parametrize("version", VERSIONS)
def test_value_and_encoder_gradients_at_gamma_one(version, epsilon, tile):
    x, y = embeddings()
    loss_fn = build(version, epsilon=epsilon, tile=tile, reduction="none")
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    losses = loss_fn(a, b, ALL)
    losses.sum().backward()
    c, d = x.clone().requires_grad_(), y.clone().requires_grad_()
    expected = literal(version, c, d, torch.tensor(TAU, dtype=torch.float64), epsilon)
    expected.sum().backward()
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(a.grad, c.grad, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(b.grad, d.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("epsilon", [1e-14, 0.3])
@pytest.mark.parametrize("version", VERSIONS)
def test_gradcheck_also_of_the_logarithm_of_the_temperature(version, epsilon, tile):
    loss_fn = build(version, epsilon=epsilon, tile=tile).eval()
    learned = version in ("v0", "v3")
    x, y = (part.requires_grad_() for part in embeddings())
    log_tau = torch.tensor([math.log(TAU)], dtype=torch.float64, requires_grad=learned)

    def value(x, y, log_tau):
        changed = {"strength.parameter": log_tau} if learned else {}
        return torch.func.functional_call(loss_fn, changed, (x, y, ALL))

    assert torch.autograd.gradcheck(value, (x, y, log_tau), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("epsilon", [1e-14, 0.3])
def test_v2_reports_the_derivative_of_each_anchors_objective(epsilon, tile):
    """G of image i and of text i, by autograd of the literal objective."""
    x, y = embeddings()
    options = {"adam": (0.0, 0.0), "tau_range": (1e-3, 10.0), "tau_lr": 1e-9}
    loss_fn = build("v2", epsilon=epsilon, tile=tile, **options)
    loss_fn(x, y, ALL)
    loss_fn.step()
    tau = torch.full((2, N), TAU, dtype=torch.float64, requires_grad=True)
    (2 * literal("v2", x, y, tau, epsilon)).sum().backward()
    for side, direction in enumerate(("x2y", "y2x")):
        found = loss_fn.strength.tables[direction].read(ALL)["momentum"]
        torch.testing.assert_close(found, tau.grad[side], rtol=1e-6, atol=1e-7)


def batches(steps, size=10, seed=5):
    """Shuffled, partly new and partly known ids, and embeddings that move."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        ids = torch.randperm(size, generator=generator)[:N]
        other = torch.randperm(size, generator=generator)[:N]
        yield ids, other, embeddings(seed=100 + step)


class Estimator:
    """The algorithm of FastCLIP as loops over anchors, and what each version does with τ.

    ``u`` is a dictionary (side, id) -> u, absent before the first visit.
    """

    def __init__(self, version, gamma, epsilon):
        self.version, self.gamma, self.epsilon = version, gamma, epsilon
        self.u = {}
        shared = torch.tensor(math.log(TAU), dtype=torch.float64, requires_grad=True)
        self.log_tau = shared
        self.tau = {}
        self.adam = {}

    def step(self, ids, x, y):
        """The mean of (τ·)g/sg(ε + u), with the τ-gradient of the objective where τ is learned."""
        unit = F.normalize(x, dim=1), F.normalize(y, dim=1)
        surrogate = of_tau = 0.0
        visits = []
        for side, (anchors, keys) in enumerate((unit, unit[::-1])):
            for i in range(len(anchors)):
                key = (side, int(ids[side][i]))
                tau = self._tau(key)
                s = [anchors[i] @ keys[j] for j in range(len(keys))]
                z = [(s[j] - s[i]) / tau.detach() for j in range(len(keys)) if j != i]
                g = sum(torch.exp(value) for value in z) / len(z)
                now = float(g.detach())
                old = self.u.get(key, now)
                u = (1 - self.gamma) * old + self.gamma * now
                visits.append((key, u))
                inside = u + self.epsilon
                factor = 1.0 if self.version == "v0" else float(tau.detach())
                surrogate = surrogate + factor * g / inside
                mean_wz = float(sum(torch.exp(v) * v for v in z).detach()) / len(z) / inside
                if self.version == "v0":
                    of_tau = of_tau - mean_wz / float(tau.detach()) * tau
                else:
                    gradient = math.log(inside) + RHO - mean_wz
                    of_tau = of_tau + gradient * tau
                    if self.version == "v2":
                        self._adam_step(key, gradient)
        total = 2 * len(x)
        (surrogate / total).backward()
        if self.version in ("v0", "v3"):
            self.log_tau.grad = None
            (of_tau / total).backward()
        self.u.update(visits)

    def _tau(self, key):
        if self.version == "v2":
            return self.tau.get(key, torch.tensor(TAU, dtype=torch.float64))
        return self.log_tau.exp()

    def _adam_step(self, key, gradient):
        """torch's Adam, with a state for each sample."""
        if key not in self.adam:
            parameter = torch.nn.Parameter(torch.tensor(TAU, dtype=torch.float64))
            self.adam[key] = (parameter, torch.optim.Adam([parameter], 0.02, betas=(0.9, 0.98)))
        parameter, optimizer = self.adam[key]
        parameter.grad = torch.tensor(gradient, dtype=torch.float64).clamp(-5, 5)
        optimizer.step()
        parameter.data.clamp_(0.05, 1.0)
        self.tau[key] = parameter.detach().clone()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_estimator_over_several_steps(version, tile):
    """Encoder gradients, tables and temperatures; a plain gradient step moves the learned τ."""
    gamma, epsilon = 0.4, 1e-3
    options = {"tau_lr": 0.02, "adam": (0.9, 0.98), "tau_range": (0.05, 1.0)}
    loss_fn = build(version, gamma, size=10, epsilon=epsilon, tile=tile, **options)
    oracle = Estimator(version, gamma, epsilon)
    for ids, other, (x, y) in batches(6):
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        c, d = x.clone().requires_grad_(), y.clone().requires_grad_()
        loss_fn.zero_grad()
        loss_fn(a, b, (ids, other)).backward()
        oracle.step((ids, other), c, d)
        torch.testing.assert_close(a.grad, c.grad, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(b.grad, d.grad, rtol=1e-6, atol=1e-9)
        if version in ("v0", "v3"):
            parameter = loss_fn.strength.parameter
            torch.testing.assert_close(parameter.grad[0], oracle.log_tau.grad, rtol=1e-6, atol=1e-9)
            with torch.no_grad():
                parameter -= 0.1 * parameter.grad
                oracle.log_tau -= 0.1 * oracle.log_tau.grad
        loss_fn.step()
    assert len(oracle.u) < 2 * 6 * 6
    for (side, key), u in oracle.u.items():
        direction, row = ("x2y", "y2x")[side], torch.tensor([key])
        found = loss_fn.tables[direction].read(row)["log_u"].exp()
        torch.testing.assert_close(found, torch.tensor([u], dtype=torch.float64), rtol=1e-6, atol=0)
        if version == "v2":
            tau = loss_fn.strength.side(row, direction)
            torch.testing.assert_close(tau, oracle.tau[side, key][None], rtol=1e-6, atol=0)


def test_v2_counts_the_updates_of_each_sample():
    """A sample that comes late has Adam's full first step, ± the learning rate."""
    loss_fn = build("v2", size=12, tau_lr=0.01)
    x, y = embeddings()
    for _ in range(3):
        loss_fn(x, y, ALL)
        loss_fn.step()
    loss_fn(x, y, ALL + 6)
    loss_fn.step()
    table = loss_fn.strength.tables["x2y"]
    assert table.read(torch.arange(12))["updates"].tolist() == [3.0] * 6 + [1.0] * 6
    moved = loss_fn.tau(ALL + 6) - TAU
    torch.testing.assert_close(moved.abs(), torch.full((6,), 0.01, dtype=torch.float64))


@pytest.mark.parametrize("least", [0.2, 0.8])
def test_gamma_falls_by_epoch_as_published(least):
    epochs, per_epoch = 5, 7
    gamma = tt.Anneal(1.0, least, steps=epochs * per_epoch, every=per_epoch)
    one = torch.zeros(1, dtype=torch.long)
    for step in range((epochs + 3) * per_epoch):
        epoch = min(step // per_epoch, epochs)
        published = 0.5 * (1 + math.cos(math.pi * epoch / epochs)) * (1 - least) + least
        assert float(gamma.at(one, step)) == pytest.approx(published, rel=1e-6)
        assert float(gamma.at(one, step)) == float(gamma.at(one, step - step % per_epoch))
    assert float(gamma.at(one, 0)) == 1.0
    assert float(gamma.at(one, epochs * per_epoch)) == pytest.approx(least)


def test_the_loss_uses_the_schedule_of_gamma():
    """Two epochs of two steps at γ = 1, then γ_min = 0.5 on the third visit."""
    x, y = embeddings()
    loss_fn = build("v1", tt.Anneal(1.0, 0.5, steps=2, every=2))
    estimates = []
    for step in range(3):
        here = (x + step * y, y)
        fresh = build("v1")
        for made in (fresh, loss_fn):
            made(*here, ALL)
            made.step()
        estimates.append(fresh.tables["x2y"].read(ALL)["log_u"].exp())
    found = loss_fn.tables["x2y"].read(ALL)["log_u"].exp()
    torch.testing.assert_close(found, (estimates[1] + estimates[2]) / 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_epsilon_is_inside_the_logarithm_and_not_in_the_table(version):
    x, y = embeddings()
    plain, offset = build(version, epsilon=0.0), build(version, epsilon=0.5)
    values = []
    for loss_fn in (plain, offset):
        loss_fn.reduction = "none"
        values.append(loss_fn(x, y, ALL).detach())
        loss_fn.step()
    tables = [made.tables["x2y"].values for made in (plain, offset)]
    assert torch.equal(*tables)
    u, other = (table.read(ALL)["log_u"].exp() for table in plain.tables.values())
    rise = (torch.log1p(0.5 / u) + torch.log1p(0.5 / other)) / 2
    factor = 1.0 if version == "v0" else TAU
    torch.testing.assert_close(values[1] - values[0], factor * rise, rtol=1e-6, atol=1e-9)


def test_v3_settles_where_the_mean_divergence_is_rho():
    """At γ = 1 its τ-gradient is mean(ρ − KL), so the optimiser ends where they agree."""
    x, y = embeddings(n=12, d=6)
    loss_fn = tt.FastCLIP(12, "v3", 1.0, rho=0.4, tau_init=0.5).double()
    optimizer = torch.optim.Adam(loss_fn.parameters(), 0.02)
    ids = torch.arange(12)
    for _ in range(400):
        optimizer.zero_grad()
        loss_fn(x, y, ids).backward()
        optimizer.step()
        loss_fn.step()
    tau = float(loss_fn.tau(ids[:1]))
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    divergences = []
    for m in (s, s.T):
        p = (m / tau).masked_fill(torch.eye(12, dtype=torch.bool), -math.inf).softmax(1)
        divergences.append(torch.special.xlogy(p, p * 11).sum(1).mean())
    assert float(sum(divergences)) / 2 == pytest.approx(0.4, abs=1e-3)


@pytest.mark.parametrize(
    ("version", "control", "learned"),
    [
        ("v0", tt.Learnable, ["strength.parameter"]),
        ("v1", tt.Constant, []),
        ("v2", tt.Individual, []),
        ("v3", tt.Learnable, ["strength.parameter"]),
    ],
)
def test_what_drives_each_version(version, control, learned):
    loss_fn = tt.FastCLIP(4, version)
    assert isinstance(loss_fn.strength, control)
    assert [name for name, _ in loss_fn.named_parameters()] == learned
    published = {"v0": 0.07, "v1": 0.07, "v2": 0.03, "v3": 0.07}[version]
    assert float(loss_fn.tau(torch.arange(1))) == pytest.approx(published)
    assert loss_fn.rho == {"v2": 7.0, "v3": 6.5}.get(version, 0.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.FastCLIP(4, "v4"), r"one of \['v0', 'v1', 'v2', 'v3'\], got 'v4'"),
        (lambda: tt.FastCLIP(4, "v0", rho=1.0), "FastCLIP-v0 has no rho, got 1"),
        (lambda: tt.FastCLIP(4, "v1", rho=0.0), "FastCLIP-v1 has no rho, got 0"),
        (lambda: tt.FastCLIP(4, "v2", rho=0.0), "rho must be > 0 for FastCLIP-v2, got 0"),
        (lambda: tt.FastCLIP(4, "v3", rho=-1.0), "rho must be > 0 for FastCLIP-v3, got -1"),
        (lambda: tt.FastCLIP(4, "v3", rho=math.nan), "rho must be a finite number, got nan"),
        (lambda: tt.FastCLIP(4, epsilon=-1e-9), "epsilon must be >= 0 and finite, got -1e-09"),
        (lambda: tt.FastCLIP(4, epsilon=math.inf), "epsilon must be a finite number, got inf"),
        (lambda: tt.FastCLIP(4, gamma=0.0), "gamma must stay finite and > 0"),
        (lambda: tt.FastCLIP(4, gamma=1.2), r"gamma must be in \(0, 1\]"),
        (lambda: tt.FastCLIP(4, "v1", tau_init=0.0), "temperature must stay finite and > 0"),
        (lambda: tt.FastCLIP(4, "v2", tau_init=2.0), "tau_min <= tau_init <= tau_max"),
        (lambda: tt.FastCLIP(4, "v2", tau_lr=0.0), r"lr must be in \(0, inf\], got 0"),
        (
            lambda: tt.FastCLIP(4, "v2", adam=(0.9, 1.0)),
            r"two decays in \[0, 1\), got \(0.9, 1.0\)",
        ),
        (lambda: tt.FastCLIP(4, "v3", tau_init=2.0), "low <= init <= high"),
        (lambda: tt.FastCLIP(0), "at least 1 sample, got 0"),
        (lambda: tt.FastCLIP(4, force="equalized"), "FastCLIP has no force= option"),
        (lambda: tt.FastCLIP(4)(*embeddings(4)), "FastCLIP keeps a moving average.*pass index="),
        (lambda: build("v1")(*embeddings(1), ALL[:1]), "needs at least 2 pairs"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
