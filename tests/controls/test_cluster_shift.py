import pytest
import torch

import tauten as tt

COUNTS = torch.tensor([2, 1000, 3617])
INDEX = torch.arange(3)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, [0.27, 0.3058893, 0.40]), (25, [0.17, 0.2058893, 0.30]), (50, [0.07, 0.1058893, 0.20])],
)
def test_mmts_reaches_the_hand_checked_values(step, expected):
    """T2."""
    control = tt.mmts(COUNTS, alpha=0.2, shift=(0.17, 0.30), period=100)
    torch.testing.assert_close(control.at(INDEX, step), torch.tensor(expected), atol=1e-6, rtol=0.0)


def test_equal_shift_ends_make_it_ts():
    """T2c."""
    control = tt.mmts(COUNTS, alpha=0.2, shift=(0.3, 0.3), period=100)
    ts = tt.Cosine(0.2, 0.4, period=100)
    for step in (0, 13, 50, 99):
        torch.testing.assert_close(control.at(INDEX, step), ts.at(INDEX, step))


@pytest.mark.parametrize(
    ("scale", "middle"), [("linear", 99 / 999), ("log", 2 / 3), ("sqrt", None)]
)
def test_scales(scale, middle):
    middle = (100**0.5 - 1) / (1000**0.5 - 1) if middle is None else middle
    control = tt.ClusterShift([1, 100, 1000], 0.0, 1.0, scale=scale)
    torch.testing.assert_close(
        control.at(INDEX), torch.tensor([0.0, middle, 1.0]), atol=1e-6, rtol=0
    )


def test_values_follow_the_id_and_not_the_place_in_the_batch():
    control = tt.ClusterShift(COUNTS, 0.1, 0.2)
    order = torch.tensor([2, 0, 0, 1])
    assert torch.equal(control.at(order), control.at(INDEX)[order])


def test_equal_counts_have_the_middle():
    assert tt.ClusterShift([5, 5], 0.1, 0.3).at(torch.tensor([0, 1])).tolist() == pytest.approx(
        [0.2, 0.2]
    )


def test_unknown_ids_are_named():
    control = tt.ClusterShift(COUNTS, 0.1, 0.2)
    with pytest.raises(ValueError, match=r"2 unknown sample ids: -1, 7; the table has 3 samples"):
        control.at(torch.tensor([0, 7, -1, 7]))


def test_state_of_other_counts_is_refused():
    other = tt.ClusterShift([2, 1000, 3618], 0.1, 0.2)
    with pytest.raises(ValueError, match="cluster counts of another data set"):
        tt.ClusterShift(COUNTS, 0.1, 0.2).load_state_dict(other.state_dict())
    swapped = tt.ClusterShift([1000, 2, 3617], 0.1, 0.2)
    with pytest.raises(ValueError, match="cluster counts of another data set"):
        tt.ClusterShift(COUNTS, 0.1, 0.2).load_state_dict(swapped.state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.ClusterShift([3, 0], 0.1, 0.2), r"counts\[1\] = 0"),
        (lambda: tt.ClusterShift([float("nan"), 1.0], 0.1, 0.2), r"counts\[0\] = nan"),
        (lambda: tt.ClusterShift([], 0.1, 0.2), r"vector \(num_samples,\)"),
        (lambda: tt.ClusterShift([1, 2], 0.3, 0.2), "low <= high"),
        (lambda: tt.ClusterShift([1, 2], 0.1, 0.2, scale="cubic"), "scale must be one of"),
        (lambda: tt.mmts([1, 2], -0.1, (0.1, 0.2), 10), "alpha must be >= 0, got -0.1"),
        (lambda: tt.mmts([1, 2], 0.1, (0.1,), 10), "shift must be two numbers"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
