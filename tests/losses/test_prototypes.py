"""Losses of prototypes, SwAV and PALM, against the papers' formulas in float64."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from compared import check
from forks import run_all
from tauten.candidates import Prototypes, concentrations
from tauten.evaluation import mahalanobis, unknown_auroc
from tauten.relations import sinkhorn

every_tile = pytest.mark.parametrize("tile", ["dense", (2, 3)])
TAU = tt.ClusterShift([1, 3, 9, 27, 81, 243], 0.1, 0.5)
INDEX = torch.tensor([5, 0, 3, 2, 4, 1])
SHARES = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def cosines(a, b):
    return F.normalize(a, dim=1) @ F.normalize(b, dim=1).T


def transported(scores, shares, eps, iterations):
    """Sinkhorn as SwAV has it: prototypes to their shares and samples to 1/B, in turn."""
    q = (scores / eps).exp()
    q = q / q.sum()
    for _ in range(iterations):
        q = q * (shares / q.sum(0))
        q = q / q.sum(1, keepdim=True) / len(q)
    return q * len(q)


@pytest.mark.parametrize("shares", ["uniform", SHARES], ids=["uniform", "stated"])
@pytest.mark.parametrize("iterations", [1, 3])
def test_assignments_are_those_of_the_paper(shares, iterations):
    scores = drawn(9, 4).tanh()
    told = torch.full((4,), 0.25).double() if isinstance(shares, str) else shares
    found = sinkhorn(scores, shares, eps=0.1, iterations=iterations)
    torch.testing.assert_close(found, transported(scores, told, 0.1, iterations))


@pytest.mark.parametrize("shares", ["uniform", SHARES], ids=["uniform", "stated"])
def test_prototypes_have_the_shares_that_are_stated(shares):
    """Equipartitioned, or with the marginal of a long tail, which scales of it do not change."""
    told = torch.full((4,), 0.25).double() if isinstance(shares, str) else shares
    prototypes = Prototypes(4, 5)
    given = shares if isinstance(shares, str) else 7 * shares
    q = prototypes.assign(drawn(40, 5), given, iterations=2000)
    torch.testing.assert_close(q.mean(0), told, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(q.sum(1), torch.ones(40).double())


def swav(crops, prototypes, shares, tau, earlier=None):
    """The formula of SwAV, with prototypes of length 1."""
    total = 0
    for at in range(2):
        z = crops[at] if earlier is None else torch.cat([crops[at], earlier[at]])
        q = transported(cosines(z, prototypes).detach(), shares, 0.05, 3)[: len(crops[at])]
        others = [v for v in range(len(crops)) if v != at]
        for v in others:
            log_p = (cosines(crops[v], prototypes) / tau[:, None]).log_softmax(1)
            total = total - (q * log_p).sum(1).mean() / len(others)
    return total


@every_tile
@pytest.mark.parametrize("queued", [False, True])
def test_swav_equals_the_formula(tile, queued):
    """Two full crops and a small one, with a temperature of each sample."""
    prototypes = Prototypes(4, 5).double()
    crops = [drawn(6, 5, seed=s).requires_grad_() for s in range(3)]
    earlier = drawn(2, 7, 5, seed=9) if queued else None
    loss_fn = tt.SwAV(TAU, prototypes, SHARES, tile=tile).double()
    told = swav(crops, prototypes.vectors, SHARES, TAU.double().at(INDEX).double(), earlier)
    check(loss_fn(crops, INDEX, earlier), told, [*crops, prototypes.vectors])
    assert torch.equal(loss_fn.tau(INDEX), loss_fn.loss.tau(INDEX))


def test_prototypes_are_scaled_again_and_may_be_frozen_at_first():
    prototypes = Prototypes(4, 5)
    loss_fn = tt.SwAV(0.1, prototypes, "uniform", frozen=1)
    optimizer = torch.optim.SGD(loss_fn.parameters(), lr=5.0)
    start = prototypes.vectors.detach().clone()
    for step in range(2):
        optimizer.zero_grad()
        crops = [drawn(6, 5, seed=s).float().requires_grad_() for s in range(2)]
        loss_fn(crops).backward()
        optimizer.step()
        loss_fn.step()
        torch.testing.assert_close(prototypes.vectors.norm(dim=1), torch.ones(4))
        assert torch.allclose(prototypes.vectors, start, atol=1e-6) == (step == 0)


@pytest.mark.parametrize(("shares", "iterations"), [("uniform", 3), (SHARES, 30)])
def test_assignments_keep_their_shares_while_swav_trains(shares, iterations):
    """No prototype takes over and none dies, with equal shares and with those of a long tail."""
    told = torch.full((4,), 0.25) if isinstance(shares, str) else shares.float()
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    centres = 2 * torch.randn(8, 6, generator=generator)
    encoder, prototypes = torch.nn.Linear(6, 5), Prototypes(4, 5)
    loss_fn = tt.SwAV(0.1, prototypes, shares, iterations=iterations)
    optimizer = torch.optim.Adam([*encoder.parameters(), *loss_fn.parameters()], lr=0.02)

    def noisy(x):
        return x + 0.3 * torch.randn(x.shape, generator=generator)

    for _ in range(60):
        x = centres[torch.randint(0, 8, (64,), generator=generator)]
        optimizer.zero_grad()
        loss_fn([encoder(noisy(x)) for _ in range(2)]).backward()
        optimizer.step()
        loss_fn.step()
    with torch.no_grad():
        q = prototypes.assign(encoder(noisy(centres.repeat(64, 1))), shares, iterations=iterations)
    torch.testing.assert_close(q.mean(0), told, rtol=0, atol=0.1)
    assert float(q.mean(0).min()) > 0.5 * float(told.min())


LABELS = torch.tensor([0, 1, 0, 1, 1, 0])


def palm(z, labels, start, each, shares, top, tau, momentum, weight):
    """The formula of PALM, of prototypes in the order of the classes, and where they move."""
    of_class = torch.arange(len(start)) // each

    def assigned(vectors):
        q = transported(cosines(z, vectors).detach(), shares, 0.05, 3)
        q = q * (of_class == labels[:, None])
        least = q.topk(top, dim=1).values[:, -1:]
        return F.normalize(q * (q >= least), p=1, dim=1)

    w = F.normalize(assigned(start), p=1, dim=0)
    moved = F.normalize(momentum * start + (1 - momentum) * w.T @ F.normalize(z, dim=1), dim=1)
    logits = cosines(z, moved.detach()) / tau[:, None]
    loss = (logits.logsumexp(1) - (assigned(moved.detach()) * logits).sum(1)).mean()
    s, eye = cosines(moved, moved) / 0.5, torch.eye(len(start)).bool()
    log_p = s.masked_fill(eye, -torch.inf).log_softmax(1).masked_fill(eye, 0.0)
    alike = (of_class[:, None] == of_class) & ~eye
    return loss - weight * ((log_p * alike).sum(1) / alike.sum(1)).mean(), moved


@every_tile
@pytest.mark.parametrize("top", [1, 2, None])
def test_palm_equals_the_formula(tile, top):
    shares = torch.tensor([0.3, 0.2, 0.2, 0.1, 0.1, 0.1], dtype=torch.float64)
    loss_fn = tt.PALM(TAU, 2, 5, 3, shares, top=top, momentum=0.6, contrast=0.7, tile=tile).double()
    start, z = loss_fn.prototypes.vectors.clone(), drawn(6, 5).requires_grad_()
    tau = TAU.double().at(INDEX).double()
    told, moved = palm(z, LABELS, start, 3, shares, top or 3, tau, 0.6, 0.7)
    check(loss_fn(z, LABELS, INDEX), told, [z])
    loss_fn.step()
    torch.testing.assert_close(loss_fn.prototypes.vectors, moved.detach())
    assert "prototypes.vectors" in loss_fn.state_dict()


def test_a_sample_far_from_its_class_has_shares_of_it_in_float32():
    """Prototypes of other classes have all but what float32 cannot hold, and float64 can."""
    loss_fn = tt.PALM(0.5, 2, 5, 3, "uniform", eps=0.005)
    vectors = loss_fn.prototypes.vectors
    z = vectors[[3, 0, 4, 1, 2, 5]] + 0.1 * drawn(6, 5).float()
    shares = torch.full((6,), 1 / 6, dtype=torch.float64)
    q = transported(cosines(z.double(), vectors.double()), shares, 0.005, 3)
    q = q * (torch.arange(6) // 3 == LABELS[:, None])
    assert 0 < float(q.sum(1).min()) < 1e-45
    w = loss_fn.assigned(z, LABELS).double()
    torch.testing.assert_close(w, q / q.sum(1, keepdim=True), rtol=1e-3, atol=1e-5)
    assert math.isfinite(loss_fn(z, LABELS))


@every_tile
def test_one_prototype_of_each_class_is_cross_entropy(tile):
    loss_fn = tt.PALM(0.1, 2, 5, 1, "uniform", tile=tile).double()
    z = drawn(6, 5).requires_grad_()
    means = torch.stack([F.normalize(z, dim=1)[c == LABELS].mean(0) for c in range(2)]).detach()
    moved = F.normalize(0.99 * loss_fn.prototypes.vectors + 0.01 * means, dim=1)
    check(loss_fn(z, LABELS), F.cross_entropy(cosines(z, moved) / 0.1, LABELS), [z])


def test_a_trained_palm_tells_unknown_classes_by_mahalanobis_distance():
    """Two known classes of two modes each; the unknown ones lie where no class is."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.eye(8)[[0, 1, 2, 3, 4, 5]]
    mode = torch.randint(0, 6, (600,), generator=generator)
    x = centres[mode] + 0.7 * torch.randn(600, 8, generator=generator)
    labels, known = mode // 2, mode < 4
    torch.manual_seed(0)
    encoder = torch.nn.Linear(8, 6)
    loss_fn = tt.PALM(0.1, 2, 6, 2, "uniform", momentum=0.9)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.01)
    rows = known.nonzero().squeeze(1)
    for _ in range(60):
        batch = rows[torch.randperm(len(rows), generator=generator)[:64]]
        optimizer.zero_grad()
        loss_fn(encoder(x[batch]), labels[batch]).backward()
        optimizer.step()
        loss_fn.step()
    with torch.no_grad():
        z = encoder(x)
    train, held = rows[::2], rows[1::2]
    near, far = (mahalanobis(z[train], labels[train], z[part]) for part in (held, ~known))
    assert unknown_auroc(near, far) > 0.7


def test_mahalanobis_distance_is_that_of_the_formula():
    train, samples = F.normalize(drawn(30, 3), dim=1), F.normalize(drawn(5, 3, seed=1), dim=1)
    labels = torch.arange(30) % 3
    means = torch.stack([train[labels == c].mean(0) for c in range(3)])
    within = train - means[labels]
    inverse = torch.linalg.inv(within.T @ within / 30)
    told = [min(float((z - m) @ inverse @ (z - m)) for m in means) for z in samples]
    found = mahalanobis(train, labels, 4 * samples)
    torch.testing.assert_close(found, torch.tensor(told, dtype=torch.float64))
    near, far = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([2.0, 3.0, 0.5])
    pairs = [0.5 if a == b else float(a < b) for a in near.tolist() for b in far.tolist()]
    assert unknown_auroc(near, far) == pytest.approx(sum(pairs) / 9)


def test_the_concentration_of_a_cluster_is_its_own_temperature():
    """MEOW: −log exp(z·c_k/φ_k) / Σ_k exp(z·c_k/φ_k), by prototypes divided by φ."""
    z, c = drawn(6, 5).requires_grad_(), drawn(4, 5, seed=1)
    code = torch.tensor([0, 1, 1, 2, 0, 2])
    phi = concentrations(z, c, code)
    units, centres = F.normalize(z, dim=1), F.normalize(c, dim=1)
    told = []
    for k in range(3):
        distance = (units[code == k] - centres[k]).norm(dim=1)
        told.append(distance.sum() / (len(distance) * torch.tensor(len(distance) + 10.0).log()))
    told.append(max(told))
    torch.testing.assert_close(phi, torch.stack(told).detach(), check_dtype=False)
    loss_fn = tt.InfoNCE(1.0, directions="x2y", normalize=False)
    columns = centres / phi.unsqueeze(1)
    found = loss_fn(units, columns, labels=(code, torch.arange(4)))
    check(found, F.cross_entropy(cosines(z, c) / phi, code), [z])


def test_processes_have_the_value_and_gradient_of_one(tmp_path):
    """Shards of 5 and 2 samples, prototypes shared, to 1e-9; FastCLIP sends no gradients."""
    worker, out = Path(__file__).parent / "prototypes_worker.py", tmp_path / "found.json"
    run_all(worker, [(rank, tmp_path / "store", out) for rank in range(2)])
    found = json.loads(out.read_text())
    assert {
        "scalars v1",
        "scalars v2",
        "scalars v3",
        "heads",
        "remixed",
        "gated",
        "swav",
        "palm",
        "class means",
        "frequent",
    } <= set(found)
    for name, error in found.items():
        assert error < 1e-9, (name, error)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sinkhorn(drawn(3, 4), "even"), "marginal must be .* got 'even'"),
        (lambda: sinkhorn(drawn(3, 4), SHARES[:3]), r"marginal must be \(4,\), a share of each"),
        (lambda: sinkhorn(drawn(3, 4), 0 * SHARES), "marginal must be finite and > 0, got 0 .. 0"),
        (lambda: sinkhorn(drawn(3, 4), SHARES, eps=0.0), "eps must be > 0, got 0.0"),
        (lambda: sinkhorn(drawn(3), SHARES), r"scores must be floating \(N, K\), got \(3,\)"),
        (lambda: Prototypes(0, 5), "at least 1, got 0 and 5"),
        (lambda: Prototypes(2, 5, momentum=1.0), r"momentum must be in \[0, 1\), got 1.0"),
        (lambda: Prototypes(2, 5).moved(drawn(3, 5), drawn(3, 2)), "moved by an optimiser"),
        (lambda: Prototypes(2, 5).assign(drawn(3, 4), "uniform"), r"\(N, 5\), got \(3, 4\)"),
        (lambda: concentrations(drawn(3, 5), drawn(2, 5), INDEX[:3]), "classes must be in 0 .. 1"),
        (lambda: concentrations(drawn(6, 5), drawn(6, 5), INDEX, alpha=0.5), "alpha must be >= 1"),
        (lambda: tt.SwAV(tt.MACL(0.1), Prototypes(4, 5), "uniform"), "cannot be SwAV's"),
        (lambda: tt.SwAV(0.1, Prototypes(4, 5), SHARES[:2]), r"marginal must be \(4,\)"),
        (lambda: tt.SwAV(0.1, Prototypes(4, 5), "uniform")([drawn(3, 5)]), "at least 2 crops"),
        (
            lambda: tt.SwAV(0.1, Prototypes(4, 5), "uniform")(drawn(6, 5)),
            r"list of at least 2 crops, each \(N, d\), got 6 of \[\(5,\)\]",
        ),
        (
            lambda: tt.SwAV(0.1, Prototypes(4, 5), "uniform")(
                [drawn(3, 5)] * 2, earlier=torch.full((2, 2, 5), torch.nan)
            ),
            r"earlier\[0\] has NaN or infinite",
        ),
        (lambda: tt.PALM(tt.MACL(0.1), 2, 5, 1, "uniform"), "cannot be PALM's"),
        (lambda: tt.PALM(0.1, 2, 5, 1, "uniform")(drawn(2, 5), [0, 1]), "labels must be a vector"),
        (lambda: tt.PALM(0.1, 2, 5, 2, "uniform", top=3), "top must be in 1 .. 2"),
        (lambda: tt.PALM(0.1, 2, 5, 2, "uniform", contrast=-1), "contrast must be >= 0"),
        (lambda: tt.PALM(0.1, 2, 5, 2, "uniform")(drawn(6, 5), INDEX), r"\(6,\) in 0 .. 1"),
        (lambda: mahalanobis(drawn(6, 5), INDEX, drawn(6, 4)), r"\(N, 5\), got \(6, 4\)"),
        (lambda: unknown_auroc([], [1.0]), "finite distances"),
    ],
)
def test_what_does_not_fit_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
