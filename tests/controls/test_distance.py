"""PairDistance: the temperature of a pair from the distance of its samples, by literal loops."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tauten as tt

TILES = ["dense", 2, (4, 3), (16, 2)]
SAMPLES, N = 20, 7
TABLE = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
ROWS = torch.tensor([3, 0, 19, 7, 7, 12, 5])
COLS = torch.tensor([11, 0, 4, 18, 2, 12, 9])

KINDS = {
    "linear": {},
    "linear-bounds": {"distances": (0.5, 2.5), "floor": 0.2},
    "logistic": {"kind": "logistic"},
    "logistic-bounds": {"kind": "logistic", "steepness": 4.0, "middle": 1.5, "floor": 0.3},
}


def build(name="linear", value=0.3, table=TABLE):
    """Both sides are positions in one table, which a pair of tables says."""
    return tt.PairDistance((table, table), value, **KINDS[name]).double()


def batch(n=N, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    y = 0.6 * x + torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x.requires_grad_(), y.requires_grad_()


def weights(rows, cols, kind="linear", distances=None, steepness=1.0, middle=0.0, floor=0.05):
    """w_ij by a loop over pairs, from the table as the control keeps it."""
    table = TABLE.float().double().numpy()
    if distances is None:
        reach = max(math.dist(row, table.mean(0)) for row in table)
        distances = (0.0, 2 * reach)
    out = np.zeros((len(rows), len(cols)))
    for i, a in enumerate(rows.tolist()):
        for j, b in enumerate(cols.tolist()):
            d = math.dist(table[a], table[b])
            if kind == "linear":
                w = (distances[1] - d) / (distances[1] - distances[0])
            else:
                w = 1 / (1 + math.exp(steepness * (d - middle)))
            out[i, j] = min(max(w, floor), 1.0)
    return out


def temperatures(name, rows=ROWS, cols=COLS, value=0.3):
    return value / weights(rows, cols, **KINDS[name])


def infonce(s, tau, directions="both"):
    """Mean InfoNCE in which pair (row i, column j) has the temperature tau[i, j], both ways."""
    n, rows, cols = len(s), 0.0, 0.0
    for i in range(n):
        positive = s[i, i] / tau[i, i]
        rows += math.log(sum(math.exp(s[i, j] / tau[i, j]) for j in range(n))) - positive
        cols += math.log(sum(math.exp(s[j, i] / tau[j, i]) for j in range(n))) - positive
    return {"both": (rows + cols) / 2, "x2y": rows, "y2x": cols}[directions] / n


def cosines(x, y):
    return (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).detach().numpy()


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("directions", ["both", "x2y", "y2x"])
@pytest.mark.parametrize("name", KINDS)
def test_the_loss_is_the_literal_loop_with_ids_of_their_own(name, directions, tile):
    x, y = batch()
    loss_fn = tt.InfoNCE(build(name), directions=directions, tile=tile)
    tau = temperatures(name)
    expected = infonce(cosines(x, y), tau, directions)
    assert float(loss_fn(x, y, (ROWS, COLS)).detach()) == pytest.approx(expected, abs=1e-7)
    ids, found = loss_fn.last_tau
    assert torch.equal(ids, COLS if directions == "y2x" else ROWS)
    assert found.tolist() == pytest.approx(tau.diagonal(), rel=1e-6)


def test_float64_embeddings_have_distances_in_float64():
    x, y = batch()
    control = tt.PairDistance((TABLE.float(), TABLE.float()), 0.3, **KINDS["logistic-bounds"])
    expected = infonce(cosines(x, y), temperatures("logistic-bounds"))
    found = tt.InfoNCE(control)(x, y, (ROWS, COLS)).detach()
    assert float(found) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("tile", TILES)
def test_one_id_vector_serves_both_sides(tile):
    x, y = batch()
    loss_fn = tt.InfoNCE(build(), tile=tile)
    expected = infonce(cosines(x, y), temperatures("linear", ROWS, ROWS))
    assert float(loss_fn(x, y, ROWS).detach()) == pytest.approx(expected, abs=1e-7)
    assert loss_fn.last_tau[1].tolist() == pytest.approx([0.3] * N)


@pytest.mark.parametrize("tile", TILES)
def test_permuted_positives_have_the_temperature_of_their_pair(tile):
    x, y = batch()
    order = torch.tensor([4, 2, 0, 6, 1, 3, 5])
    loss_fn = tt.InfoNCE(build("logistic"), tile=tile)
    moved = loss_fn(x, y[order], (ROWS, COLS[order]), positives=torch.argsort(order))
    tau = temperatures("logistic")
    assert float(moved.detach()) == pytest.approx(infonce(cosines(x, y), tau), abs=1e-7)
    assert loss_fn.last_tau[1].tolist() == pytest.approx(tau.diagonal(), rel=1e-6)


@pytest.mark.parametrize("tile", ["dense", (4, 3)])
@pytest.mark.parametrize("make", [tt.InfoNCE, tt.DCL, tt.SigLIP, tt.MaxMargin])
@pytest.mark.parametrize("rule", ["distance", "similarity"])
def test_the_order_of_y_changes_no_anchor(rule, make, tile):
    x, y = batch()
    counts = list(range(1, SAMPLES + 1))
    shift = tt.ClusterShift((counts, counts), 0.0, 0.4)
    control = (build("logistic") if rule == "distance" else tt.DySTreSS(0.1, 0.2)) + shift
    loss_fn = make(control, reduction="none", tile=tile)
    order = torch.tensor([4, 2, 0, 6, 1, 3, 5])
    expected = loss_fn(x, y, (ROWS, COLS))
    found = loss_fn(x, y[order], (ROWS, COLS[order]), positives=torch.argsort(order))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), (x, y)),
        torch.autograd.grad(expected.sum(), (x, y)),
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("tile", TILES)
def test_sides_of_different_length(tile):
    x, y = batch()
    loss_fn = tt.InfoNCE(build(), directions="x2y", tile=tile)
    found = loss_fn(x[:3], y, (ROWS[:3], COLS), positives=torch.arange(3))
    s, tau = cosines(x, y), temperatures("linear")
    logits = s[:3] / tau[:3]
    expected = np.mean([math.log(np.exp(logits[i]).sum()) - logits[i, i] for i in range(3)])
    assert float(found.detach()) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", KINDS)
def test_tiles_have_the_gradient_of_the_whole_matrix_and_of_finite_differences(name):
    x, y = batch()
    index = (ROWS, COLS)
    loss_fn = tt.InfoNCE(build(name), tile="dense")
    expected = torch.autograd.grad(loss_fn(x, y, index), (x, y))
    for tile in TILES[1:]:
        tiled = tt.InfoNCE(build(name), tile=tile)
        found = torch.autograd.grad(tiled(x, y, index), (x, y))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda x, y: loss_fn(x, y, index), (x, y), eps=1e-6, atol=1e-7, fast_mode=True
    )


def test_the_weight_multiplies_the_cosine_as_published():
    """SiMHand: logits w_ij · s_ij / 0.5."""
    x, y = batch()
    s, w = cosines(x, y), weights(ROWS, ROWS)
    expected = infonce(s * w, np.full((N, N), 0.5))
    found = tt.InfoNCE(tt.PairDistance(TABLE).double())(x, y, ROWS)
    assert float(found.detach()) == pytest.approx(expected, abs=1e-7)


def test_by_default_no_distance_exceeds_the_largest():
    control = build()
    table = control.metadata.numpy()
    largest = max(math.dist(a, b) for a in table for b in table)
    assert control.distances[0] == 0.0
    assert largest <= control.distances[1] <= 2 * largest
    assert tt.PairDistance(torch.ones(4, 2)).distances == (0.0, 1.0)


def test_the_floor_bounds_the_temperature():
    table = torch.tensor([[0.0], [1.0], [100.0]])
    control = tt.PairDistance((table, table), 0.5, distances=(0.0, 2.0), floor=0.1)
    assert control.range() == pytest.approx((0.5, 5.0))
    x = torch.eye(3)
    loss_fn = tt.InfoNCE(control, directions="x2y")
    loss_fn(x, x, (torch.tensor([0, 0, 0]), torch.tensor([0, 1, 2])))
    assert loss_fn.last_tau[1].tolist() == pytest.approx([0.5, 1.0, 5.0])


def test_far_samples_stay_finite_where_the_exponential_overflows():
    table = torch.tensor([[0.0], [1e6], [2e6]])
    x = torch.eye(3).requires_grad_()
    loss_fn = tt.InfoNCE(tt.PairDistance(table, 0.5, "logistic", steepness=10.0, middle=5.0))
    loss_fn(x, torch.eye(3), torch.arange(3)).backward()
    assert bool(x.grad.isfinite().all())


def test_a_sum_with_a_shift_of_samples_keeps_the_anchor_of_each_direction():
    counts = torch.arange(1, SAMPLES + 1)
    x, y = batch()
    control = build() + tt.ClusterShift((counts, counts), 0.0, 0.4)
    shift = (0.4 * torch.arange(SAMPLES) / (SAMPLES - 1)).double().numpy()
    s, tau = cosines(x, y), temperatures("linear")
    rows = infonce(s, tau + shift[ROWS][:, None], "x2y")
    cols = infonce(s, tau + shift[COLS][None, :], "y2x")
    for tile in TILES:
        found = tt.InfoNCE(control, tile=tile)(x, y, (ROWS, COLS))
        assert float(found.detach()) == pytest.approx((rows + cols) / 2, abs=1e-7)


def test_ids_outside_the_table_are_named_on_either_side():
    x, y = batch(3)
    loss_fn = tt.InfoNCE(build())
    good, bad = torch.tensor([0, 1, 2]), torch.tensor([0, 20, -1])
    for index in ((bad, good), (good, bad)):
        with pytest.raises(ValueError, match=r"2 unknown sample ids: -1, 20; the table has 20"):
            loss_fn(x, y, index)
    with pytest.raises(ValueError, match=r"InfoNCE's temperature is per sample.*pass index="):
        loss_fn(x, y)


def test_ids_of_y_in_a_table_of_x_are_refused():
    x, y = batch()
    loss_fn = tt.InfoNCE(tt.PairDistance(TABLE), directions="x2y")
    with pytest.raises(ValueError, match=r"other ids for y than for x, .* has one table, of x"):
        loss_fn(x, y, (ROWS, COLS))
    queued = torch.cat([ROWS, COLS])
    keys = torch.cat([y, x]).detach()
    found = loss_fn(x, keys, (ROWS, queued))
    both = tt.InfoNCE(tt.PairDistance((TABLE, TABLE)), directions="x2y")
    torch.testing.assert_close(found, both(x, keys, (ROWS, queued)))


def test_each_side_has_metadata_of_its_own():
    x, y = batch()
    other = TABLE.flip(0)[:15]
    loss_fn = tt.InfoNCE(tt.PairDistance((TABLE, other), distances=(0.0, 9.0)))
    with pytest.raises(ValueError, match="1 unknown sample ids: 18; the table has 15"):
        loss_fn(x, y, (ROWS, COLS))
    joined = tt.PairDistance(torch.cat([TABLE, other]), distances=(0.0, 9.0))
    cols = COLS.clamp(max=14)
    metadata, zero = joined.metadata, torch.zeros(N)
    values = joined._rule(zero, metadata[ROWS], metadata[cols + SAMPLES])
    loss_fn(x, y, (ROWS, cols))
    torch.testing.assert_close(loss_fn.last_tau[1].float(), values)
    with pytest.raises(ValueError, match=r"must have one width, got \(3, 2\)"):
        tt.PairDistance((TABLE, TABLE[:, :2]))


def test_state_of_other_metadata_is_refused():
    def build(table=TABLE):
        return tt.PairDistance(table, 0.3).double()

    saved = build().state_dict()
    build().load_state_dict(saved)
    build(table=TABLE.T.contiguous().T).load_state_dict(saved)
    swapped = TABLE[torch.tensor([1, 0, *range(2, SAMPLES)])]
    nudged = TABLE.clone()
    nudged[4, 1] += 1e-4
    others = {"swapped": swapped, "nudged": nudged, "shorter": TABLE[:-1], "negated": -TABLE}
    for other in others.values():
        with pytest.raises(ValueError, match=r"metadata of another data set: 60 numbers there"):
            build(table=other).load_state_dict(saved)
    loss_fn = tt.InfoNCE(build() + 0.1)
    with pytest.raises(ValueError, match="metadata of another data set"):
        tt.InfoNCE(build(table=swapped) + 0.1).load_state_dict(loss_fn.state_dict())


def test_the_table_is_no_part_of_the_checkpoint():
    assert max(t.numel() for t in build().state_dict().values()) == 3


def test_a_sample_alone_has_no_value():
    control = build()
    for ask in (control.at, tt.InfoNCE(control).tau, lambda i: control.mean(i, 2)):
        with pytest.raises(ValueError, match="a value for each pair, not for each sample"):
            ask(ROWS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.PairDistance(torch.ones(3)), r"must be \(num_samples, k\), got \(3,\)"),
        (lambda: tt.PairDistance(torch.ones(0, 2)), r"must be \(num_samples, k\), got \(0, 2\)"),
        (
            lambda: tt.PairDistance(torch.tensor([[0.0, 1.0], [math.nan, 2.0]])),
            r"must be finite, but row 1 is \[nan, 2.0\]",
        ),
        (lambda: tt.PairDistance(TABLE, 0.0), "must be > 0, got 0.0 and 1.0"),
        (lambda: tt.PairDistance(TABLE, math.nan), "value must be a finite number, got nan"),
        (lambda: tt.PairDistance(TABLE, 0.5, "cubic"), "'linear' or 'logistic', got 'cubic'"),
        (lambda: tt.PairDistance(TABLE, steepness=-1.0), "must be > 0, got 0.5 and -1.0"),
        (lambda: tt.PairDistance(TABLE, middle=math.inf), "middle must be a finite number"),
        (lambda: tt.PairDistance(TABLE, floor=0.0), r"floor must be in \(0, 1\], got 0.0"),
        (lambda: tt.PairDistance(TABLE, floor=1.5), r"floor must be in \(0, 1\], got 1.5"),
        (lambda: tt.PairDistance(TABLE, distances=(2.0, 1.0)), r"d_min < d_max.*got \(2.0, 1.0\)"),
        (lambda: tt.PairDistance(TABLE, distances=(-1.0, 1.0)), "0 <= d_min"),
        (lambda: tt.PairDistance(TABLE, distances=(0.0, math.nan)), "0 <= d_min < d_max"),
        (lambda: tt.PairDistance(TABLE, distances=(0.0, math.inf)), "finite"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def learned_posterior(x, domains, steps=60):
    """The chance of each domain, by logistic regression on every other sample."""
    weight = torch.zeros(x.shape[1], 2, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(x[::2] @ weight, domains[::2]).backward()
        optimizer.step()
    return (x @ weight).softmax(1).detach()


def probed(z, labels, count):
    """The accuracy of a linear probe on the second half of frozen features."""
    half = len(z) // 2
    head = torch.nn.Linear(z.shape[1], count)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(head(z[:half]), labels[:half]).backward()
        optimizer.step()
    return float((head(z[half:]).argmax(1) == labels[half:]).float().mean())


def test_negatives_of_the_anchors_domain_push_harder():
    """-log e^{s_ii/τ} / (e^{s_ii/τ} + Σ_j e^{s_ij/τ_ij}), τ_ij by a posterior of the domain."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    posterior = torch.rand(6, 1, generator=generator, dtype=torch.float64)
    posterior = torch.cat([posterior, 1 - posterior], dim=1)
    control = tt.PairDistance(posterior, 0.1, distances=(0.0, 2.0))
    found = tt.InfoNCE(control, directions="x2y").double()(x, y, torch.arange(6))
    s = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T
    apart = (posterior[:, None] - posterior).norm(dim=2)
    tau = 0.1 / ((2 - apart) / 2).clamp(min=0.05)
    torch.testing.assert_close(tau.diagonal(), torch.full((6,), 0.1).double())  # positives keep τ
    torch.testing.assert_close(found, F.cross_entropy(s / tau, torch.arange(6)))


def test_features_forget_the_domain_and_keep_the_class():
    """Two domains that are told apart more easily than the classes, of a learned posterior."""
    generator = torch.Generator().manual_seed(0)
    domain = torch.randint(0, 2, (600,), generator=generator)
    label = torch.randint(0, 4, (600,), generator=generator)
    x = torch.cat([2 * F.one_hot(domain, 2), F.one_hot(label, 4)], dim=1).float()
    x = x + 0.2 * torch.randn(600, 6, generator=generator)
    accuracy = {}
    for name, control in (
        ("plain", tt.Constant(0.1)),
        ("domains", tt.PairDistance(learned_posterior(x, domain), 0.1)),
    ):
        torch.manual_seed(0)
        encoder, loss_fn = torch.nn.Linear(6, 3), tt.InfoNCE(control)
        optimizer = torch.optim.Adam(encoder.parameters(), lr=0.02)
        for _ in range(120):
            rows = torch.randint(0, 600, (64,), generator=generator)
            noise = 0.5 * torch.randn(2, 64, 6, generator=generator)
            optimizer.zero_grad()
            loss_fn(*encoder(x[rows] + noise), rows).backward()
            optimizer.step()
        z = F.normalize(encoder(x).detach(), dim=1)
        accuracy[name] = probed(z, domain, 2), probed(z, label, 4)
    assert accuracy["plain"][0] > 0.9
    assert accuracy["domains"][0] < 0.75
    assert accuracy["domains"][1] > accuracy["plain"][1] - 0.02
