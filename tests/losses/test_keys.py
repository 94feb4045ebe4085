"""Anchors of both sides against keys of their own: a queue of pairs, against literal loops."""

import pytest
import torch
from torch.nn import functional as F

import tauten as tt
from tauten.candidates import Keys, PairQueue

N, K, DIM, SAMPLES = 5, 9, 4, 12
COUNTS = torch.arange(1, SAMPLES + 1)
INDEX = torch.tensor([3, 1, 4, 0, 7, 1, 8, 4, 2])  # keys 5 and 7 are of samples 1 and 4
IMAGES = torch.tensor([0, 1, 2, 3, 4, 1, 5, 2, 0])  # key 8 has the image of key 0
LABELS = torch.tensor([0, 1, 0, 2, 1, 1, 2, 0, 1])
TILES = ["dense", (2, 3)]


def sides(seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n, DIM, generator=generator, dtype=torch.float64) for n in (N, N, K, K)]
    x, y, kx, ky = rows
    return x.requires_grad_(), y.requires_grad_(), kx, ky


def keys(kx, ky, **ids):
    return Keys(kx, ky, INDEX, **({"same": (IMAGES,)} | ids))


def kept(i):
    """Which keys the anchor i meets: its own, and those of other samples and images."""
    return [j for j in range(K) if j == i or (INDEX[j] != INDEX[i] and IMAGES[j] != IMAGES[i])]


def cosines(anchors, of_keys):
    return F.normalize(anchors, dim=1) @ F.normalize(of_keys, dim=1).T


def infonce(s, i, tau):
    logits = torch.stack([s[i, j] / tau for j in kept(i)])
    return logits.logsumexp(0) - s[i, i] / tau


def dcl(s, i, tau):
    logits = torch.stack([s[i, j] / tau for j in kept(i) if j != i])
    return logits.logsumexp(0) - s[i, i] / tau


def hinges(s, i, margin):
    terms = [(margin - s[i, i] + s[i, j]).clamp(min=0) for j in kept(i) if j != i]
    return torch.stack(terms).sum() / (K - 1)


def sigmoids(s, i, tau):
    others = [F.softplus(s[i, j] / tau - 2.0) for j in kept(i) if j != i]
    return torch.stack(others).sum() + F.softplus(-(s[i, i] / tau - 2.0))


def same_numbers(loss, expected, *of):
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, of), torch.autograd.grad(expected, of))


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    ("make", "literal"),
    [
        (tt.InfoNCE, infonce),
        (tt.DCL, dcl),
        (tt.MaxMargin, hinges),
        (lambda c, **o: tt.SigLIP(c, -2.0, **o), sigmoids),
    ],
)
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
def test_both_sides_meet_keys_of_the_other(make, literal, tile, directions):
    x, y, kx, ky = sides()
    control = tt.ClusterShift((COUNTS, COUNTS.flip(0)), 0.1, 0.4)
    of_x, of_y = control.at(INDEX), control.side(INDEX, "y2x").double()
    loss = make(control, tile=tile, directions=directions)(x, y, keys=keys(kx, ky))
    one, other = cosines(x, ky), cosines(y, kx)
    x2y = torch.stack([literal(one, i, of_x[i].double()) for i in range(N)]).mean()
    y2x = torch.stack([literal(other, i, of_y[i]) for i in range(N)]).mean()
    expected = {"both": (x2y + y2x) / 2, "x2y": x2y, "y2x": y2x}[directions]
    of = {"both": (x, y), "x2y": (x,), "y2x": (y,)}[directions]
    same_numbers(loss, expected, *of)


@pytest.mark.parametrize("tile", TILES)
def test_keys_of_an_equal_label_are_positives(tile):
    x, y, kx, ky = sides(1)
    loss = tt.SupCon(0.2, tile=tile)(x, y, keys=Keys(kx, ky, INDEX, labels=LABELS))
    expected = torch.zeros((), dtype=torch.float64)
    for anchors, of_keys in ((x, ky), (y, kx)):
        s = cosines(anchors, of_keys) / 0.2
        for i in range(N):
            positive = LABELS[i] == LABELS
            meets = positive | (INDEX[i] != INDEX)
            expected = expected + (s[i][meets].logsumexp(0) - s[i][positive].mean()) / (2 * N)
    same_numbers(loss, expected, x, y)
    values = tt.InfoNCE(0.2, reduction="none")(x, y, keys=Keys(kx, ky, INDEX, labels=LABELS))
    torch.testing.assert_close(values.mean(), expected)


CONTROLS = {
    "learned": lambda: tt.Learnable(0.2, 0.01, 1.0),
    "mmts": lambda: tt.mmts(COUNTS, 0.1, (0.1, 0.3), 7),
    "tempnet": lambda: tt.TempNet(DIM, rho=0.5, tau_range=(0.1, 0.5), prototypes=5, dropout=0.0),
    "individual": lambda: tt.Individual(SAMPLES, rho=0.5, tau_init=0.2),
    "tau": lambda: tt.TaU(DIM, 0.1),
    "dystress": lambda: tt.DySTreSS(0.15, 0.3),
    "distance": lambda: tt.PairDistance((COUNTS[:, None] ** 0.5, COUNTS[:, None] * 0.1)),
    "macl": lambda: tt.MACL(0.2),
}


@pytest.mark.filterwarnings("ignore::tauten.losses.CompositionWarning")
@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("tile", TILES)
def test_each_direction_has_the_values_of_its_own_anchors(name, tile):
    """x2y is MoCo's call; y2x that of keys of x in the rows and y in the columns, filled up with
    further anchors that are not looked at.
    """
    x, y, kx, ky = sides(2)
    directions = ("both", "x2y", "y2x")
    found, one, other = (
        tt.InfoNCE(CONTROLS[name](), tile=tile, directions=d, reduction="none").double()
        for d in directions
    )
    with torch.no_grad():
        for part in found.parameters():
            part.mul_(torch.linspace(0.9, 1.1, part.numel(), dtype=part.dtype).view_as(part))
    for loss_fn in (one, other):
        loss_fn.load_state_dict(found.state_dict())
    own, same = torch.arange(N), [(INDEX[:N], INDEX), (IMAGES[:N], IMAGES)]
    filled = torch.cat([y, ky[N:]])
    ids = torch.cat([INDEX[:N], torch.tensor([9, 10, 11, 5])])
    ignore = torch.zeros(K, K, dtype=torch.bool)
    for i in range(N):
        ignore[:, i] = torch.tensor([j not in kept(i) for j in range(K)])
    for _ in range(2):
        loss = found(x, y, keys=keys(kx, ky))
        x2y = one(x, ky, (INDEX[:N], INDEX), positives=own, same=same)
        if name == "macl":  # the alignment of all anchors sets τ, so none can be filled up
            sim = cosines(y, kx)
            tau = 0.2 * (1 + 0.5 * sim.diagonal().mean().detach())
            y2x = torch.stack([infonce(sim, i, tau) for i in range(N)])
        else:
            y2x = other(kx, filled, (INDEX, ids), ignore=ignore)[:N]
        same_numbers(loss.sum(), (x2y + y2x).sum() / 2, x, y)
        for loss_fn in (found, one, other):
            loss_fn.step()
    if name == "individual":
        seen = [loss_fn.tau((INDEX[:N], INDEX[:N])) for loss_fn in (found, one, other)]
        torch.testing.assert_close(seen[0][0], seen[1][0])
        torch.testing.assert_close(seen[0][1], seen[2][1])
        assert (seen[0][1] != 0.2).any()


@pytest.mark.parametrize("options", [{"force": "equalized"}, {"reduction": tt.DRO(0.5)}, {}])
def test_live_keys_without_a_queue_are_the_batch_itself(options):
    """Also the gradient of the keys, the running mean over steps and the weights of anchors."""
    made = [
        tt.InfoNCE(
            tt.ClusterShift(COUNTS, 0.1, 0.4), weight=tt.ClusterShift(COUNTS, 0.5, 2.0), **options
        )
        for _ in range(2)
    ]
    for seed in range(2):
        x, y, *_ = sides(seed)
        index = torch.tensor([1, 2, 3, 4, 2])
        loss = made[0](x, y, keys=Keys(x, y, index))
        same_numbers(loss, made[1](x, y, index, same=[index]), x, y)
        for loss_fn in made:
            loss_fn.step()


def test_relevance_multiplies_the_margin_of_both_directions():
    x, y, kx, ky = sides(3)
    relevance = torch.linspace(0.1, 1.0, N, dtype=torch.float64)
    loss = tt.MaxMargin(0.4)(x, y, keys=keys(kx, ky), relevance=relevance)
    expected = sum(
        hinges(s, i, 0.4 * relevance[i]) / (2 * N)
        for s in (cosines(x, ky), cosines(y, kx))
        for i in range(N)
    )
    same_numbers(loss, expected, x, y)


def test_no_gradient_flows_to_queued_pairs_and_they_are_the_last():
    queue, all_ids = PairQueue(4, DIM, ids=2), []
    for step in range(3):
        x, y, *_ = sides(step)
        index = torch.arange(N) + 10 * step
        own = Keys(x, y, index, same=(index + 1,))
        found = queue.candidates(own)
        assert found.ids("x2y").tolist() == [*index.tolist(), *all_ids[-4:]]
        assert torch.equal(found.same[0], found.ids("y2x") + 1)
        tt.InfoNCE(0.2)(x, y, keys=found).backward()
        queue.push(own)
        assert x.grad is not None
        assert not queue.candidates(own.detached()).x.requires_grad
        # the queue of 4 keeps the last four of five, each in the place of the oldest
        all_ids = sorted(index[1:].tolist(), key=lambda i: (5 * step + i % 10) % 4)
    again = PairQueue(4, DIM, ids=2)
    again.load_state_dict(queue.state_dict())
    for one in (queue, again):
        one.push(own.detached().each(lambda t: t[:2]))
    assert torch.equal(again.candidates(own).y, queue.candidates(own).y)


def test_forces_are_those_on_both_matrices():
    x, y, kx, ky = sides(4)
    loss_fn = tt.InfoNCE(0.2)
    found = tt.forces(loss_fn, x, y, keys=keys(kx, ky))
    sims = [cosines(x, ky).detach().requires_grad_(), cosines(y, kx).detach().requires_grad_()]
    loss = sum(infonce(s, i, 0.2) for s in sims for i in range(N)) / 2
    expected = torch.cat(torch.autograd.grad(loss, sims), dim=1)
    torch.testing.assert_close(found.pairs, expected)
    torch.testing.assert_close(found.attraction, found.repulsion)


def test_what_does_not_fit_is_refused():
    x, y, kx, ky = (side.detach() for side in sides())
    index, loss_fn = INDEX[:N], tt.InfoNCE(0.2)
    refused = [
        (lambda: loss_fn(x, y, same=[index], keys=keys(kx, ky)), "leave same= out"),
        (lambda: loss_fn(x, y, labels=index, keys=keys(kx, ky)), "leave labels= out"),
        (lambda: loss_fn(x, y, index.flip(0), keys=keys(kx, ky)), "index= must be that"),
        (lambda: loss_fn(x, y, keys=keys(kx, ky).each(lambda t: t[:3])), "5 rows and 3 keys"),
        (lambda: loss_fn(x, keys=keys(kx, ky)), "of two sides"),
        (lambda: tt.MaxMargin(0.2)(x, y, keys=Keys(kx, ky, INDEX, labels=LABELS)), "labels"),
        (lambda: tt.SupCon(0.2)(x, y, keys=keys(kx, ky)), "SupCon needs labels="),
        (lambda: tt.SogCLR(SAMPLES, 0.2)(x, y, index, keys=keys(kx, ky)), "SogCLR takes no keys="),
        (lambda: tt.SMS(0.2)(x, y, keys=keys(kx, ky)), "SMS takes no keys=: it is told"),
        (lambda: Keys(kx, ky[:3], INDEX), "one shape"),
        (lambda: Keys(kx, ky, INDEX[:3]), "an id for each of 9 keys"),
        (lambda: PairQueue(3, DIM, ids=1).push(keys(kx, ky)), r"PairQueue\(ids=1\) keeps"),
        (lambda: PairQueue(0, DIM), "at least 1"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(tt.NonFiniteLossError, match=r"keys\.y has NaN"):
        loss_fn(x, y, keys=keys(kx, ky * torch.nan))
