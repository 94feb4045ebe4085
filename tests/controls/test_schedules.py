import itertools
import math

import pytest
import torch

import tauten as tt

ONE = torch.zeros(1, dtype=torch.long)


def test_ts_reaches_the_published_values():
    """T4: τ in [0.1, 1], t_max 200 epochs is half a period of 400."""
    control = tt.Cosine(0.1, 1.0, period=400)
    values = [float(control.at(ONE, epoch)) for epoch in (1, 100, 200, 300, 400)]
    assert values == pytest.approx([0.9999445, 0.55, 0.1, 0.55, 1.0], abs=1e-6)


@pytest.mark.parametrize("per_epoch", [1, 21])
def test_ts_counts_epochs_from_1_and_holds_each_value_for_an_epoch(per_epoch):
    control = tt.Cosine(0.1, 1.0, period=400 * per_epoch, phase=2 * math.pi / 400, every=per_epoch)
    epochs = torch.tensor([1, 100, 200, 300, 400])
    first = [float(control.at(ONE, (e - 1) * per_epoch)) for e in epochs.tolist()]
    last = [float(control.at(ONE, e * per_epoch - 1)) for e in epochs.tolist()]
    assert first == pytest.approx([0.9999445, 0.55, 0.1, 0.55, 1.0], abs=1e-6)
    assert last == first
    assert ("every=21" in repr(control)) == (per_epoch == 21)


def test_every_is_a_whole_number_of_steps():
    for bad in (0, 2.5):
        with pytest.raises(ValueError, match="every must be a whole number, at least 1"):
            tt.Cosine(0.1, 1.0, period=10, every=bad)


def test_cosine_starts_high_and_is_periodic_for_long():
    control = tt.Cosine(-0.1, 0.1, period=7)
    far = 7 * 10**9
    assert float(control.at(ONE, 0)) == pytest.approx(0.1)
    assert float(control.at(ONE, far + 3)) == pytest.approx(float(control.at(ONE, 3)), abs=1e-7)


def test_phase_pi_starts_low():
    control = tt.Cosine(0.1, 0.5, period=10, phase=math.pi)
    assert float(control.at(ONE, 0)) == pytest.approx(0.1)
    assert float(control.at(ONE, 5)) == pytest.approx(0.5)


def test_step_moves_the_present():
    control = tt.Cosine(0.1, 0.5, period=10)
    for _ in range(5):
        control.step()
    assert float(control.at(ONE)) == pytest.approx(0.1)
    assert float(control.at(ONE, 0)) == pytest.approx(0.5)


def test_anneal_goes_down_once_and_stays():
    control = tt.Anneal(0.11, 0.03, steps=100)
    values = [float(control.at(ONE, t)) for t in range(0, 131, 10)]
    assert values[0] == pytest.approx(0.11)
    assert values[5] == pytest.approx(0.07)
    assert values[10:] == pytest.approx([0.03] * 4)
    assert all(a >= b for a, b in itertools.pairwise(values))
    assert control.range() == (0.03, 0.11)


def test_anneal_may_rise():
    control = tt.Anneal(0.03, 0.11, steps=10)
    assert float(control.at(ONE, 0)) == pytest.approx(0.03)
    assert float(control.at(ONE, 10)) == pytest.approx(0.11)


@pytest.mark.parametrize(("epochs", "of_epoch"), [(4, 5), (3, 7), (1, 6)])
def test_anneal_by_epoch_is_the_schedule_of_fastclip(epochs, of_epoch):
    """γ_t = ½(1 + cos(πE/E_max))(1 − γ_min) + γ_min by whole epochs, γ_min from E_max on."""
    control = tt.Anneal(1.0, 0.2, steps=epochs * of_epoch, every=of_epoch)
    for step in range((epochs + 2) * of_epoch):
        epoch = step // of_epoch
        share = (1 + math.cos(math.pi * epoch / epochs)) / 2 if epoch < epochs else 0.0
        assert float(control.at(ONE, step)) == pytest.approx(0.2 + 0.8 * share, abs=1e-6)
    assert [float(control.at(ONE, t)) for t in range(of_epoch)] == [1.0] * of_epoch
    assert control.range() == (0.2, 1.0)


def test_anneal_moves_every_step_unless_told_otherwise():
    control = tt.Anneal(1.0, 0.0, steps=10)
    explicit = tt.Anneal(1.0, 0.0, steps=10, every=1)
    values = [float(control.at(ONE, t)) for t in range(12)]
    assert values == [float(explicit.at(ONE, t)) for t in range(12)]
    assert len(set(values)) == 11


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tt.Cosine(0.5, 0.1, 10), "low <= high, got low=0.5 > high=0.1"),
        (lambda: tt.Cosine(0.1, 0.5, 0), "period must be a positive number of steps, got 0"),
        (lambda: tt.Cosine(0.1, float("inf"), 5), "high must be a finite number"),
        (lambda: tt.Anneal(0.1, 0.05, -3), "steps must be a positive number of steps, got -3"),
        (lambda: tt.Anneal(0.1, 0.05, 10, every=0), "every must be.*at least 1, got 0"),
        (lambda: tt.Anneal(0.1, 0.05, 10, every=math.nan), "every must be.*got nan"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
