"""The hand-checked vectors of the published formulas, dense and tiled."""

import pytest
import torch

import tauten as tt

S = torch.tensor([[0.8, 0.3, -0.1], [0.2, 0.6, 0.4], [0.0, 0.5, 0.7]], dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.float64)
COUNTS = torch.tensor([2, 1000, 3617])
INDEX = torch.arange(3)
TILES = ["dense", 1, 2, (2, 3)]


def mmts():
    return tt.mmts(COUNTS, alpha=0.2, shift=(0.17, 0.30), period=100)


def at_step(loss_fn, step):
    for _ in range(step):
        loss_fn.step()
    return float(loss_fn(S, EYE, INDEX))


@pytest.mark.parametrize("tile", TILES)
def test_t0_identity_matrix(tile):
    eye = torch.eye(2, dtype=torch.float64)
    assert float(tt.InfoNCE(1.0, tile=tile)(eye, eye)) == pytest.approx(0.3132617, abs=1e-6)
    tau = tt.ClusterShift([2, 1], low=0.5, high=1.0)
    value = tt.InfoNCE(tau, tile=tile)(eye, eye, torch.arange(2))
    assert float(value) == pytest.approx(0.2200948, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_t1_equal_temperatures_are_plain_infonce(tile):
    loss_fn = tt.InfoNCE(0.1, normalize=False, tile=tile)
    assert float(loss_fn(S, EYE)) == pytest.approx(0.1130382929, abs=1e-6)
    equal = tt.ClusterShift([7, 7, 7], 0.1, 0.1)
    loss_fn = tt.InfoNCE(equal, normalize=False, tile=tile)
    assert float(loss_fn(S, EYE, INDEX)) == pytest.approx(0.1130382929, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(("step", "expected"), [(0, 0.4498003), (25, 0.3278800), (50, 0.1804850)])
def test_t2_mmts(tile, step, expected):
    loss_fn = tt.InfoNCE(mmts(), normalize=False, tile=tile)
    assert at_step(loss_fn, step) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_t2b_the_temperature_is_the_anchors_and_not_the_keys(tile):
    loss_fn = tt.InfoNCE(mmts(), normalize=False, tile=tile, directions="x2y")
    assert at_step(loss_fn, 0) == pytest.approx(0.4451443, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_t2c_degenerate_schedules(tile):
    constant = tt.mmts(COUNTS, alpha=0.0, shift=(0.1, 0.1), period=100)
    loss_fn = tt.InfoNCE(constant, normalize=False, tile=tile)
    assert at_step(loss_fn, 17) == pytest.approx(0.1130382929, abs=1e-6)
    ts = tt.InfoNCE(tt.Cosine(0.2, 0.4, 100), normalize=False, tile=tile)
    same = tt.mmts(COUNTS, alpha=0.2, shift=(0.3, 0.3), period=100)
    loss_fn = tt.InfoNCE(same, normalize=False, tile=tile)
    assert at_step(loss_fn, 17) == pytest.approx(at_step(ts, 17), abs=1e-7)


@pytest.mark.parametrize("tile", TILES)
def test_t3_constant_margin(tile):
    loss_fn = tt.MaxMargin(0.2, normalize=False, tile=tile)
    assert float(loss_fn(S, EYE)) == pytest.approx(0.0083333, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(("step", "expected"), [(0, 0.0514723), (25, 0.0176482), (50, 0.0004908)])
def test_t3_mmts_margin(tile, step, expected):
    loss_fn = tt.MaxMargin(mmts(), normalize=False, tile=tile)
    assert at_step(loss_fn, step) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_t3b_hinge_terms_one_by_one(tile):
    s = torch.tensor([[0.5, 0.4], [0.1, 0.3]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    loss_fn = tt.MaxMargin(0.2, normalize=False, tile=tile, reduction="none")
    torch.testing.assert_close(
        loss_fn(s, eye), torch.tensor([0.05, 0.15]).double(), atol=1e-6, rtol=0
    )
    margin = tt.ClusterShift([1, 2], 0.17, 0.30)
    loss_fn = tt.MaxMargin(margin, normalize=False, tile=tile)
    assert float(loss_fn(s, eye, torch.arange(2))) == pytest.approx(0.1425, abs=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_t3c_the_diagonal_is_no_term(tile):
    loss_fn = tt.MaxMargin(0.2, normalize=False, tile=tile)
    with_diagonal = (float(loss_fn(S, EYE)) * 12 + 2 * 3 * 0.2) / 18
    assert with_diagonal == pytest.approx(0.0722222, abs=1e-6)
