"""Bugs of public codes, each written out beside the right rule, on inputs where they differ.

Here the similarities are the inputs: x is the matrix of scores, y the identity, nothing is
normalised. ``forces`` are then the derivatives with respect to each score.
"""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tauten as tt

N, TAU, GAMMA = 5, 0.25, 0.8
IDS = torch.arange(N)
OFF = ~torch.eye(N, dtype=torch.bool)


def scores(n=N, seed=0, dtype=torch.float64):
    """Cosines of n pairs that belong together more or less, (n, n)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    y = 0.7 * x + torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).to(dtype)


def differences(s):
    """h_ij = s_ij − s_ii."""
    return s - s.diagonal().unsqueeze(1)


def estimates(s, tau):
    """e_ij = exp(h_ij/τ_i) with a zero diagonal, and g_i, their mean over the B − 1 negatives."""
    e = torch.exp(differences(s) / tau).masked_fill(~OFF, 0.0)
    return e, e.sum(1) / (len(s) - 1)


def over_scores(loss_class, *args, **options):
    options = {"normalize": False, "directions": "x2y", "reduction": "sum"} | options
    return loss_class(*args, **options).double()


def call(loss_fn, s, ids=IDS, **relation):
    return loss_fn(s, torch.eye(s.shape[1], dtype=s.dtype), ids, **relation)


def forces(loss_fn, s, ids=IDS, **relation):
    leaf = s.clone().requires_grad_()
    call(loss_fn, leaf, ids, **relation).backward()
    return leaf.grad


def repulsion(loss_fn, s, **relation):
    return forces(loss_fn, s, **relation).masked_fill(~OFF, 0.0)


def differs(buggy, right):
    return float(((buggy - right) / right).abs().max()) > 1e-2


# ---------------------------------------------------------------- the index of the temperature


def test_a_vector_that_divides_a_matrix_is_the_candidates_temperature():
    """A vector of B broadcasts over columns: row i then has the τ_j of its candidates."""
    s = torch.tensor([[0.8, 0.3, -0.1], [0.2, 0.6, 0.4], [0.0, 0.5, 0.7]], dtype=torch.float64)
    control = tt.ClusterShift([2, 1000, 3617], 0.27, 0.40)
    tau = 0.27 + 0.13 * torch.tensor([0, 998, 3615], dtype=torch.float64) / 3615
    by_column = F.cross_entropy(s / tau, torch.arange(3))
    by_row = F.cross_entropy(s / tau[:, None], torch.arange(3))
    assert float(by_column) == pytest.approx(0.4686792, abs=1e-6)
    assert float(by_row) == pytest.approx(0.4451443, abs=1e-6)
    loss_fn = over_scores(tt.InfoNCE, control, reduction="mean")
    assert float(call(loss_fn, s, torch.arange(3))) == pytest.approx(float(by_row), rel=1e-9)


def test_the_transpose_of_divided_scores_has_the_other_sides_temperature():
    s = scores()
    control = tt.ClusterShift([1, 2, 4, 8, 16], 0.1, 0.5)
    tau = control.double().at(IDS).double()
    divided = s / tau[:, None]
    reused = (F.cross_entropy(divided, IDS) + F.cross_entropy(divided.T, IDS)) / 2
    right = (F.cross_entropy(divided, IDS) + F.cross_entropy(s.T / tau[:, None], IDS)) / 2
    assert differs(reused, right)
    loss_fn = over_scores(tt.InfoNCE, control, directions="both", reduction="mean")
    torch.testing.assert_close(call(loss_fn, s), right)


# ------------------------------------------------------------- averages of SogCLR and iSogCLR


def sogclr(gamma=GAMMA, size=N, tau=TAU, **options):
    return over_scores(tt.SogCLR, size, tau, gamma, **options)


@pytest.mark.parametrize("make", [tt.SogCLR, tt.iSogCLR, tt.FastCLIP, tt.NUCLR])
def test_the_positive_is_not_counted_among_the_negatives(make):
    """Without a mask the positive adds e⁰ to the sum that is divided by B − 1."""
    s = scores()
    options = {
        tt.SogCLR: {"temperature": TAU},
        tt.iSogCLR: {"tau_init": TAU},
        tt.FastCLIP: {"version": "v1", "tau_init": TAU},
        tt.NUCLR: {"temperature": TAU},
    }[make]
    loss_fn = over_scores(make, N, gamma=1.0, **options)
    call(loss_fn, s)
    loss_fn.step()
    e, g = estimates(s, TAU)
    counted = (e.sum(1) + 1.0) / (N - 1)
    assert differs(counted, g)
    torch.testing.assert_close(loss_fn.tables["x2y"].read(IDS)["log_u"].exp(), g, rtol=1e-6, atol=0)


def from_zero(old, seen, g):
    """s starts at 0, so that the first average is γ·g."""
    return (1 - GAMMA) * old.masked_fill(~seen, 0.0) + GAMMA * g


def by_batch(old, seen, g):
    """All are new if the sum over the batch is 0, else none is."""
    return g if not bool(seen.any()) else from_zero(old, seen, g)


def by_sample(old, seen, g):
    return torch.where(seen, from_zero(old, seen, g), g)


@pytest.mark.parametrize(("buggy", "known"), [(from_zero, 0), (from_zero, 3), (by_batch, 3)])
def test_the_weights_of_new_samples_are_not_inflated(buggy, known):
    """Of a batch in which none, or three of five, were met before."""
    s = scores()
    loss_fn = sogclr()
    old = torch.linspace(0.3, 2.0, N, dtype=torch.float64)
    loss_fn.tables["x2y"].write(IDS[:known], {"log_u": old[:known].log()})
    e, g = estimates(s, TAU)
    wrong, right = (rule(old, known > IDS, g) for rule in (buggy, by_sample))
    torch.testing.assert_close((right / wrong)[known:], torch.full((N - known,), 1.25).double())
    expected = e / right[:, None] / (N - 1)
    torch.testing.assert_close(repulsion(loss_fn, s), expected, rtol=1e-6, atol=1e-9)


def test_an_average_survives_a_temperature_that_grows():
    """A maximum that only grows leaves exp(z − b) = 0 in float32 once z has shrunk.

    τ goes from 0.01 to 1 and z = h/τ from 150 to 1.5; after 200 visits nothing of the first average
    is left, and the estimate is that of τ = 1.
    """
    h = torch.tensor([[0.0, 1.5, 1.2]])
    loss_fn = tt.SogCLR(3, tt.Anneal(0.01, 1.0, steps=10), 0.9, normalize=False, directions="x2y")
    s, b = torch.zeros(()), torch.zeros(())
    for visit in range(200):
        tau = float(loss_fn.strength.at(IDS[:1]))
        z = h[0, 1:] / tau
        peak = torch.maximum(b, z.max())
        gamma = 0.9 if visit else 1.0
        s = (1 - gamma) * s * torch.exp(b - peak) + gamma * torch.exp(z - peak).mean()
        b = peak
        leaf = h.clone().requires_grad_()
        ids = (torch.tensor([0]), torch.arange(3))
        loss_fn(leaf, torch.eye(3), ids, positives=torch.tensor([0])).backward()
        loss_fn.step()
    dead = torch.exp(z - b) / s.clamp(min=1e-10) / 2
    assert dead.tolist() == [0.0, 0.0]
    alive = torch.softmax(h[0, 1:], dim=0)
    torch.testing.assert_close(leaf.grad[0, 1:], alive, rtol=1e-5, atol=0)


class PlainTensors(nn.Module):
    """Per-sample state as a plain tensor of the module."""

    def __init__(self):
        super().__init__()
        self.u = torch.zeros(N)


STATEFUL = {
    "sogclr": lambda: tt.SogCLR(N, TAU, GAMMA),
    "isogclr": lambda: tt.iSogCLR(N, 0.5, GAMMA, TAU),
    "fastclip-v2": lambda: tt.FastCLIP(N, "v2", GAMMA),
    "fastclip-v3": lambda: tt.FastCLIP(N, "v3", GAMMA),
    "nuclr": lambda: tt.NUCLR(N, TAU, GAMMA, lr=0.3),
    "infonce-individual": lambda: tt.DCL(tt.Individual(N, 0.5, TAU)),
    "infonce-equalized": lambda: tt.InfoNCE(tt.Cosine(0.1, 0.5, 5), force="equalized"),
}


@pytest.mark.parametrize("name", STATEFUL)
def test_state_is_in_the_state_dict(name):
    assert not PlainTensors().state_dict()
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(N, 3, generator=generator), torch.randn(N, 3, generator=generator)
    trained, resumed, fresh = (STATEFUL[name]() for _ in range(3))
    for seen in ((x, y), (y, x)):
        trained(*seen, IDS)
        trained.step()
    resumed.load_state_dict(trained.state_dict())
    fresh.step()
    fresh.step()
    values = [loss_fn(x, x + y, IDS) for loss_fn in (trained, resumed, fresh)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


@pytest.mark.parametrize("rank", [0, 1])
def test_positives_of_a_rank_are_the_columns_of_its_shard(rank):
    """Of a local × global matrix the diagonal has the positives of rank 0 only."""
    s = scores(6)
    local = slice(3 * rank, 3 * rank + 3)
    ids = (torch.arange(6)[local], torch.arange(6))
    diagonal = s[local].diagonal()
    right = torch.stack([s[3 * rank + i, 3 * rank + i] for i in range(3)])
    assert torch.equal(diagonal, right) == (rank == 0)
    loss_fn = sogclr(1.0, size=6)
    found = forces(loss_fn, s[local], ids, positives=torch.arange(3) + 3 * rank)
    whole = forces(sogclr(1.0, size=6), s, torch.arange(6))
    torch.testing.assert_close(found, whole[local])
    wrong = forces(sogclr(1.0, size=6), s[local], ids, positives=torch.arange(3))
    assert torch.allclose(wrong, whole[local]) == (rank == 0)


@pytest.mark.parametrize("n", [3, 5, 9])
def test_the_force_does_not_grow_with_the_number_of_negatives(n):
    """Σ_j p_ij·h_ij without a division by B − 1, where p was divided by a mean."""
    s = scores(n)
    e = torch.exp(differences(s) / TAU).fill_diagonal_(0)
    p = e / (e.sum(1, keepdim=True) / (n - 1))
    assert p.sum(1).tolist() == pytest.approx([n - 1] * n)
    found = forces(sogclr(1.0, size=n), s, torch.arange(n))
    torch.testing.assert_close(found.fill_diagonal_(0), p / (n - 1), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rho", [0.05, 3.0])
def test_a_shared_temperature_can_fall_and_rise(rho):
    """mean(u)·τ instead of log u, and no gradient through h/τ: that gradient is always positive."""
    s = scores()
    control = tt.Learnable(TAU, 0.01, 1.0)
    loss_fn = over_scores(tt.SogCLR, N, control, 1.0, rho, directions="both", reduction="mean")
    call(loss_fn, s).backward()
    found = float(control.parameter.grad) / TAU
    true = as_coded = 0.0
    for m in (s, s.T):
        e, u = estimates(m, TAU)
        mean_z = (e * differences(m) / TAU).sum(1) / (N - 1) / u
        true += float((u.log() + rho - mean_z).mean()) / 2
        as_coded += float(u.mean()) / 2 + rho / 2
    assert as_coded > 0
    assert (true > 0) == (rho == 3.0)
    assert found == pytest.approx(true, rel=1e-6)


def shards(n=6, d=4):
    generator = torch.Generator().manual_seed(2)
    x, y = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(2))
    return x.requires_grad_(), y.requires_grad_()


def gathered(side, rank, with_gradient):
    """All shards of three; without gradient all but the rank's own are detached."""
    parts = [part if with_gradient or r == rank else part.detach() for r, part in enumerate(side)]
    return torch.cat(parts)


@pytest.mark.parametrize("with_gradient", [True, False])
@pytest.mark.parametrize("make", [lambda: tt.SogCLR(6, TAU, 1.0), lambda: tt.DCL(TAU)])
def test_candidates_of_other_ranks_have_a_gradient(make, with_gradient):
    """The mean over ranks of local anchors × gathered candidates, against one process.

    With candidates gathered without gradient the candidates' side of the force is missing.
    """
    x, y = shards()
    loss_fn = make()
    loss_fn.directions = "x2y"
    expected = torch.autograd.grad(loss_fn(x, y, torch.arange(6)), (x, y))
    total = 0.0
    for rank in range(2):
        keys = gathered(y.split(3), rank, with_gradient)
        local = torch.arange(3) + 3 * rank
        total = total + loss_fn(x[local], keys, (local, torch.arange(6)), positives=local) / 2
    found = torch.autograd.grad(total, (x, y))
    torch.testing.assert_close(found[0], expected[0])
    assert torch.allclose(found[1], expected[1]) == with_gradient


def test_the_mean_of_the_ranks_is_not_divided_by_their_number_again():
    """The whole loss on each rank with the gradient of its shard alone, then a mean over ranks."""
    x, y = shards()
    loss_fn = tt.SogCLR(6, TAU, 1.0)
    expected = torch.autograd.grad(loss_fn(x, y, torch.arange(6)), (x, y))
    for with_gradient in (True, False):
        total = 0.0
        for rank in range(2):
            sides = [gathered(side.split(3), rank, with_gradient) for side in (x, y)]
            total = total + loss_fn(*sides, torch.arange(6)) / 2
        found = torch.autograd.grad(total, (x, y))
        share = 1.0 if with_gradient else 0.5
        for mine, whole in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, share * whole)


# ----------------------------------------------------------------------- numbers out of range


FAMILIES = {
    "infonce": lambda **kw: tt.InfoNCE(0.01, **kw),
    "reweighted": lambda **kw: tt.InfoNCE(0.01, force="reweighted", **kw),
    "equalized": lambda **kw: tt.InfoNCE(0.01, force="equalized", **kw),
    "dcl": lambda **kw: tt.DCL(0.01, **kw),
    "siglip": lambda **kw: tt.SigLIP(0.01, **kw),
    "max-margin": lambda **kw: tt.MaxMargin(0.2, **kw),
    "dystress": lambda **kw: tt.InfoNCE(tt.DySTreSS(), **kw),
    "temo": lambda **kw: tt.InfoNCE(tt.TeMo(), **kw),
    "macl": lambda **kw: tt.InfoNCE(tt.MACL(0.02), force="reweighted", **kw),
    "tau": lambda **kw: tt.InfoNCE(tt.TaU(8), **kw),
    "tempnet": lambda **kw: tt.SogCLR(8, tt.TempNet(8, dropout=0.0), 0.5, **kw),
    "sogclr": lambda **kw: tt.SogCLR(8, 0.01, 0.5, **kw),
    "isogclr": lambda **kw: tt.iSogCLR(8, **kw),
    "fastclip-v0": lambda **kw: tt.FastCLIP(8, "v0", 0.5, tau_init=0.01, **kw),
    "fastclip-v1": lambda **kw: tt.FastCLIP(8, "v1", 0.5, tau_init=0.01, **kw),
    "fastclip-v2": lambda **kw: tt.FastCLIP(8, "v2", 0.5, tau_init=0.01, **kw),
    "fastclip-v3": lambda **kw: tt.FastCLIP(8, "v3", 0.5, tau_init=0.01, **kw),
    "nuclr": lambda **kw: tt.NUCLR(8, 0.01, 0.5, **kw),
}


def test_the_mask_of_minus_a_billion_is_infinite_in_half_precision():
    masked = torch.zeros(2, dtype=torch.float16) + torch.tensor([0.0, -1e9]).half()
    weights = torch.exp(masked)
    assert torch.isnan((weights * masked).sum())


@pytest.mark.parametrize("tile", ["dense", 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FAMILIES)
def test_half_precision_with_masked_pairs_is_finite(name, dtype, tile):
    """Some pairs, in the second step all but the positives; tables were written in between."""
    generator = torch.Generator().manual_seed(0)
    x = F.normalize(torch.randn(8, 8, generator=generator)).to(dtype)
    y = F.normalize(x.float() + 0.1 * torch.randn(8, 8, generator=generator)).to(dtype)
    torch.manual_seed(0)
    loss_fn = FAMILIES[name](tile=tile)
    for same in ([0, 0, 1, 2, 3, 3, 3, 4], [0] * 8, [0, 1, 2, 3, 4, 5, 6, 7]):
        a, b = (side.clone().requires_grad_() for side in (x, y))
        loss = loss_fn(a, b, torch.arange(8), same=torch.tensor(same))
        loss.backward()
        loss_fn.step()
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert torch.isfinite(a.grad).all()
        assert torch.isfinite(b.grad).all()
        assert all(torch.isfinite(p.grad).all() for p in loss_fn.parameters() if p.grad is not None)


def test_exponentials_of_logits_in_half_precision():
    """NT-Xent of plain exponentials overflows below τ ≈ 0.09."""
    x = torch.eye(4, 8).half()
    logits = x @ x.T / 0.08
    assert torch.isnan(-torch.log(torch.exp(logits).diagonal() / torch.exp(logits).sum(1))).any()
    expected = math.log1p(3 * math.exp(-1 / 0.08))
    assert float(tt.InfoNCE(0.08)(x, x)) == pytest.approx(expected, abs=2e-6)


OPPOSITE = torch.tensor([[-1.0, 1.0, 0.5], [1.0, -1.0, 0.2], [1.0, 0.9, -1.0]])


@pytest.mark.parametrize("tau", [0.01, 0.002])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("name", ["sogclr", "fastclip", "isogclr"])
def test_averages_of_very_large_and_very_small_exponentials(name, sign, tau):
    """h = ±2 at τ = 0.01 is exp(±200), which float32 has not; averaged with another batch's.

    A log of the average is right for any of them.
    """
    make = {
        "sogclr": lambda: tt.SogCLR(3, tau, 0.5, normalize=False, directions="x2y"),
        "fastclip": lambda: tt.FastCLIP(
            3, "v1", 0.5, tau_init=tau, epsilon=0.0, normalize=False, directions="x2y"
        ),
        "isogclr": lambda: tt.iSogCLR(
            3, 6.0, 0.5, tau, (0.001, 1.0), lr=1e-12, normalize=False, directions="x2y"
        ),
    }
    loss_fn, ids = make[name](), torch.arange(3)
    s = sign * OPPOSITE
    raw = torch.exp(differences(s)[0, 1] / tau)
    assert float(raw) in (0.0, math.inf) or float(raw) < 1e-35
    log_u = None
    for batch in (s, s + 0.1 * torch.eye(3)):
        leaf = batch.clone().requires_grad_()
        loss = loss_fn(leaf, torch.eye(3), ids)
        loss.backward()
        loss_fn.step()
        assert torch.isfinite(loss)
        assert torch.isfinite(leaf.grad).all()
        z = (differences(batch.double()) / tau).fill_diagonal_(-math.inf)
        log_g = z.logsumexp(1) - math.log(2)
        mixed = log_g if log_u is None else torch.logaddexp(log_u, log_g) - math.log(2)
        log_u = mixed
        found = loss_fn.tables["x2y"].read(ids)["log_u"]
        torch.testing.assert_close(found.double(), log_u, rtol=1e-5, atol=1e-4)


def test_a_small_average_is_not_taken_for_a_sample_never_met():
    """u < 1e-35 starts the average again at every visit, which at τ = 0.01 means h < −0.8."""
    loss_fn = tt.FastCLIP(2, "v1", 0.25, tau_init=0.01, normalize=False, directions="x2y")
    u = torch.zeros(2)
    for gap in (0.9, 1.0):
        g = torch.exp(torch.full((2,), -gap / 0.01))
        u = torch.where(u < 1e-35, g, 0.75 * u + 0.25 * g)
        loss_fn(gap * torch.eye(2), torch.eye(2), torch.arange(2))
        loss_fn.step()
    right = math.log(0.75 * math.exp(-90) + 0.25 * math.exp(-100))
    assert float(u[0].log()) == pytest.approx(-100, abs=0.1)
    assert float(loss_fn.tables["x2y"].read(torch.tensor([0]))["log_u"]) == pytest.approx(
        right, rel=1e-5
    )


# -------------------------------------------------------------------------- FastCLIP as coded


def test_v1_is_multiplied_by_its_temperature():
    s = scores()
    loss_fn = over_scores(tt.FastCLIP, N, "v1", 1.0, tau_init=TAU)
    e, u = estimates(s, TAU)
    as_coded = e / TAU / u[:, None] / (N - 1)
    objective = e / u[:, None] / (N - 1)
    assert float((as_coded[OFF] / objective[OFF]).min()) == pytest.approx(4)
    torch.testing.assert_close(repulsion(loss_fn, s), objective, rtol=1e-6, atol=1e-9)


def test_each_anchor_of_v2_is_multiplied_by_its_temperature():
    """As coded an anchor's force is larger by 1/τ_i: rare samples pull harder than they should."""
    s = scores()
    tau = torch.linspace(0.1, 0.5, N, dtype=torch.float64)
    loss_fn = over_scores(tt.FastCLIP, N, "v2", 1.0)
    loss_fn.strength.tables["x2y"].write(IDS, {"tau": tau})
    e, u = estimates(s, tau[:, None])
    as_coded = e / tau[:, None] / u[:, None] / (N - 1)
    objective = e / u[:, None] / (N - 1)
    ratio = (as_coded.sum(1) / objective.sum(1)).tolist()
    assert ratio == pytest.approx((1 / tau).tolist())
    torch.testing.assert_close(repulsion(loss_fn, s), objective, rtol=1e-6, atol=1e-9)


def test_the_moments_of_v2_are_corrected_by_visits_and_not_by_epochs():
    """A sample first met in epoch 3: the exponent epoch + 1 makes its first step a third too long.

    By its own count Adam's first step is the learning rate, whatever the gradient.
    """
    first, second = 0.9, 0.98
    s = scores()
    loss_fn = over_scores(tt.FastCLIP, 2 * N, "v2", 1.0, tau_init=0.3, adam=(first, second))
    for _ in range(3):
        call(loss_fn, s)
        loss_fn.step()
    before = loss_fn.tau(IDS + N)
    call(loss_fn, s, IDS + N)
    loss_fn.step()
    steps = (before - loss_fn.tau(IDS + N)).abs() / 0.0133
    by_epoch = (1 - first) / (1 - first**4) / math.sqrt((1 - second) / (1 - second**4))
    assert abs(by_epoch - 1) > 0.3
    assert steps.tolist() == pytest.approx([1.0] * N, rel=1e-5)


# -------------------------------------------------------------- rules of the other temperatures


def dystress(s, low, high):
    return low + (high - low) / 2 * (1 + torch.cos(math.pi * (1 + s)))


@pytest.mark.parametrize(("low", "high"), [(0.1, 1.0), (0.05, 0.5)])
def test_a_more_similar_pair_never_has_a_smaller_logit(low, high):
    """s/τ(s) with a wide range of τ rises, falls and rises again."""
    s = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert bool(((s / dystress(s, low, high)).diff() < 0).any())
    with pytest.raises(ValueError, match=r"must rise on \[0, 1\].*it falls at s=0.2"):
        tt.DySTreSS(low, high)
    for low, high in ((0.1, 0.2), (0.07, 0.2)):
        tt.DySTreSS(low, high)
        assert bool(((s / dystress(s, low, high)).diff() > 0).all())


@pytest.mark.parametrize("tau", [0.02, 0.01, 0.005])
@pytest.mark.parametrize("tile", ["dense", 2])
def test_the_weight_of_a_pair_that_is_won_is_finite(tile, tau):
    """V = 1/(1 − P) of plain exponentials is infinite once P rounds to 1, and V·log P is no number.

    V·(−log P) tends to 1, and its derivatives are those of DCL: the pull is 1/τ.
    """
    eye = torch.eye(4)
    p = torch.softmax(eye / tau, dim=1).diagonal()
    v = 1 / (1 - p)
    assert torch.isinf(v).all()
    assert torch.isnan(v * p.log()).all()
    loss_fn = tt.InfoNCE(tt.MACL(tau, slope=0.0), force="reweighted", tile=tile)
    x = eye.clone().requires_grad_()
    loss = loss_fn(x, eye)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(1.0, rel=1e-6)
    assert torch.isfinite(x.grad).all()
    found = tt.forces(loss_fn, eye, eye)
    assert found.attraction.tolist() == pytest.approx([1 / tau] * 4, rel=1e-5)


def test_the_second_view_has_an_uncertainty_of_its_own():
    """As published the positive of the second view is divided by the first view's temperature."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    z = torch.cat([a, b])
    control = tt.TaU(3)
    head = control.heads["x2y"]
    nn.init.normal_(head.weight, generator=generator)
    loss_fn = tt.InfoNCE(control, directions="x2y", reduction="none").double()
    tau = control.predict(z).detach()
    assert float((tau[:4] - tau[4:]).abs().max()) > 0.1
    cosine = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T
    reused, own = [], []
    for i in range(8):
        other = (i + 4) % 8
        negatives = sum(torch.exp(cosine[i, j] / tau[i]) for j in range(8) if j % 4 != i % 4)
        for losses, t in ((reused, tau[i % 4]), (own, tau[i])):
            positive = torch.exp(cosine[i, other] / t)
            losses.append(-torch.log(positive / (positive + negatives)))
    other = torch.arange(8).roll(4)
    found = loss_fn(z, z, positives=other, same=torch.arange(8) % 4).detach()
    torch.testing.assert_close(found, torch.stack(own), rtol=1e-6, atol=1e-9)
    assert reused[:4] == own[:4]
    assert float((torch.stack(reused) - torch.stack(own)).abs().max()) > 0.1
