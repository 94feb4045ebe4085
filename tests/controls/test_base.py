import math

import pytest
import torch

import tauten as tt

INDEX = torch.arange(3)
COUNTS = [2, 1000, 3617]


def test_sum_difference_and_multiples_are_elementwise():
    a, b = tt.Cosine(0.1, 0.3, period=8), tt.ClusterShift(COUNTS, 0.1, 0.2)
    for step in (0, 1, 5):
        left, right = a.at(INDEX, step), b.at(INDEX, step)
        torch.testing.assert_close((a + b).at(INDEX, step), left + right)
        torch.testing.assert_close((a - b).at(INDEX, step), left - right)
        torch.testing.assert_close((3 * a).at(INDEX, step), 3 * left)
        torch.testing.assert_close((a / 4).at(INDEX, step), left / 4)
        torch.testing.assert_close((2 / b).at(INDEX, step), 2 / right)
        torch.testing.assert_close((1 - b).at(INDEX, step), 1 - right)
        torch.testing.assert_close((0.5 + b).at(INDEX, step), 0.5 + right)


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        (tt.Cosine(-0.1, 0.1, 8) + tt.ClusterShift(COUNTS, 0.2, 0.3), (0.1, 0.4)),
        (tt.Constant(1.0) - tt.Cosine(-0.1, 0.3, 8), (0.7, 1.1)),
        (-2 * tt.Cosine(0.1, 0.3, 8), (-0.6, -0.2)),
        (1 / tt.Cosine(0.1, 0.5, 8), (2.0, 10.0)),
        (tt.Cosine(-0.1, 0.3, 8).clamp(0.05, 0.2), (0.05, 0.2)),
        (tt.Cosine(0.1, 0.3, 8).clamp(0.5, 0.6), (0.5, 0.5)),
    ],
)
def test_range_of_a_composition_contains_every_value_and_is_reached(control, expected):
    assert control.range() == pytest.approx(expected)
    values = torch.stack([control.at(INDEX, step) for step in range(9)])
    assert float(values.min()) >= expected[0] - 1e-6
    assert float(values.max()) <= expected[1] + 1e-6


def test_clamp_limits_values():
    control = tt.Cosine(0.0, 1.0, period=4).clamp(0.25, 0.6)
    assert [float(control.at(INDEX[:1], t)) for t in (0, 1, 2)] == pytest.approx([0.6, 0.5, 0.25])


def test_step_advances_a_part_that_occurs_twice_only_once():
    part = tt.Cosine(0.1, 0.3, period=8)
    control = part + 2 * part
    control.step()
    assert part.steps == control.steps == 1


def test_a_composition_starts_at_the_step_of_its_parts():
    part = tt.Cosine(0.1, 0.3, period=8)
    for _ in range(4):
        part.step()
    assert float((part + 0.0).at(INDEX)[0]) == pytest.approx(0.1)


def test_state_dict_carries_the_step():
    control = tt.Cosine(0.1, 0.3, period=8) + tt.ClusterShift(COUNTS, 0.1, 0.2)
    for _ in range(3):
        control.step()
    fresh = tt.Cosine(0.1, 0.3, period=8) + tt.ClusterShift(COUNTS, 0.1, 0.2)
    fresh.load_state_dict(control.state_dict())
    assert torch.equal(fresh.at(INDEX), control.at(INDEX))
    fresh.step()
    assert fresh.steps == 4


def test_mean_averages_over_samples_and_time():
    control = tt.mmts(COUNTS, alpha=0.2, shift=(0.17, 0.30), period=50)
    shift = tt.ClusterShift(COUNTS, 0.17, 0.30).at(INDEX)
    assert control.mean(INDEX, steps=100) == pytest.approx(float(shift.mean()), abs=1e-6)
    whole = [control.at(INDEX, t).double().mean().item() for t in range(7)]
    assert control.mean(INDEX, steps=7) == pytest.approx(math.fsum(whole) / 7, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.Constant(float("nan")), "value must be a finite number, got nan"),
        (lambda: tt.Constant(1.0).clamp(2, 1), "low <= high, got 2 > 1"),
        (lambda: 1 / tt.Cosine(-0.1, 0.1, 4), "cannot divide by a control that can be 0"),
        (lambda: tt.Constant(1.0) / 0, "divided by 0"),
        (lambda: tt.Constant(1.0) * float("inf"), "factor must be a finite number"),
        (lambda: tt.Constant(1.0).at(torch.ones(2)), "index must hold integers"),
        (lambda: tt.Constant(1.0).at(torch.ones(2, 2).long()), r"vector \(N,\)"),
        (
            lambda: tt.Constant(1.0).at(INDEX, step=-1),
            "step must be a whole number, at least 0, got -1",
        ),
        (
            lambda: tt.Constant(1.0).mean(INDEX, steps=0),
            "steps must be a whole number, at least 1, got 0",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_tensor_is_no_control():
    with pytest.raises(TypeError, match="wrap per-sample tensors in a control"):
        tt.InfoNCE(torch.ones(3))


def test_constants_fold():
    for control, value in (
        (tt.Constant(0.1) + tt.Constant(0.2), 0.1 + 0.2),
        (tt.Constant(0.1) + 0.2, 0.1 + 0.2),
        (0.5 - tt.Constant(0.2), 0.3),
        (tt.Constant(0.1) * 3, 0.1 * 3),
        (-tt.Constant(0.1), -0.1),
        (tt.Constant(0.6) / 4, 0.15),
        (2 * (tt.Constant(0.1) + 0.2) - 0.5, 0.1),
    ):
        assert isinstance(control, tt.Constant)
        assert control.fixed == pytest.approx(value)
        assert control.at(INDEX).tolist() == pytest.approx([value] * 3)
    with pytest.raises(ValueError, match="factor must be a finite number, got nan"):
        tt.Constant(0.1) * math.nan


@pytest.mark.parametrize(
    "fold",
    [
        lambda a: a + 0,
        lambda a: 0 + a,
        lambda a: a + tt.Constant(0.0),
        lambda a: tt.Constant(0.0) + a,
        lambda a: a - 0.0,
        lambda a: 1 * a,
        lambda a: a / 1,
        lambda a: a.clamp(0.1, 0.3),
        lambda a: a.clamp(-1, 1),
    ],
)
def test_what_changes_nothing_leaves_the_control_itself(fold):
    control = tt.Cosine(0.1, 0.3, period=8)
    assert fold(control) is control
    assert control.fixed is None


@pytest.mark.parametrize(
    "change", [lambda a: a + 0.1, lambda a: 2 * a, lambda a: 1 / a, lambda a: a.clamp(0.15, 1)]
)
def test_what_changes_something_does_not_fold(change):
    control = tt.Cosine(0.1, 0.3, period=8)
    assert change(control) is not control
    assert change(control).fixed is None


def test_an_infinite_clamp_is_refused_even_where_it_never_bites():
    with pytest.raises(ValueError, match="low must be a finite number"):
        tt.Constant(1.0).clamp(-math.inf, 2.0)


def learnable():
    return tt.Learnable(0.1, 0.01, 1.0)


@pytest.mark.parametrize(
    ("make", "granularity", "index", "batch", "cosine", "learns"),
    [
        (lambda: tt.Constant(0.1), "global", False, False, False, "nothing"),
        (lambda: learnable() + tt.Cosine(0, 0.1, 5), "global", False, False, False, "gradient"),
        (lambda: 2 * tt.ClusterShift(COUNTS, 0.1, 0.2), "anchor", True, False, False, "nothing"),
        (lambda: tt.MACL() + 0.1, "global", False, True, True, "nothing"),
        (lambda: tt.DySTreSS() + learnable(), "pair", False, True, True, "gradient"),
        (lambda: 1 / tt.TaU(4), "anchor", False, True, False, "gradient"),
        (lambda: tt.TempNet(4).clamp(0.01, 0.02), "anchor", False, True, False, "dual"),
        (
            lambda: tt.PairDistance(torch.ones(3, 2)) + tt.ClusterShift(COUNTS, 0.1, 0.2),
            "pair",
            True,
            False,
            False,
            "nothing",
        ),
        (
            lambda: tt.TeMo() + tt.ClusterShift(COUNTS, 0.1, 0.2),
            "pair",
            True,
            True,
            True,
            "nothing",
        ),
    ],
)
def test_a_composition_needs_what_its_parts_need(make, granularity, index, batch, cosine, learns):
    control = make()
    found = (control.granularity, control.needs_index, control.needs_batch, control.needs_cosine)
    assert (*found, control.learns) == (granularity, index, batch, cosine, learns)


def test_a_composition_brings_the_rho_of_its_part():
    assert (2 * tt.TempNet(4, rho=3.0) + tt.Cosine(0, 0.1, 5)).rho == 3.0
    assert (tt.Constant(0.1) + tt.Cosine(0, 0.1, 5)).rho == 0.0


def test_parts_that_learn_from_different_gradients_are_refused():
    with pytest.raises(ValueError, match=r"TempNet.*Learnable.*different gradients"):
        tt.TempNet(4) + learnable()
    with pytest.raises(ValueError, match="different gradients"):
        tt.TaU(4) + 2 * tt.TempNet(4)


def test_networks_of_different_rho_are_refused():
    with pytest.raises(ValueError, match="rho"):
        tt.TempNet(4, rho=3.0) + tt.TempNet(4, rho=7.0)


def test_a_mean_over_endless_steps_is_refused():
    with pytest.raises(ValueError, match=r"steps must be a whole number.*beyond 4\.6e18"):
        tt.Cosine(0.1, 0.2, 10).mean(torch.arange(3), steps=10**30)
    with pytest.raises(ValueError, match=r"steps=1000000000000 is too many"):
        tt.Constant(0.1).mean(torch.arange(3), steps=10**12)
