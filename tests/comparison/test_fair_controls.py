"""Controls that take a schedule apart: each part, other sizes, weight without shape."""

import math

import pytest
import torch

import tauten as tt
from tauten.controls import shuffled_counts
from tauten.training import Config, specs
from tauten.training.build import build_control, build_loss

LABELS = ["a"] * 10 + ["b"] * 4 + ["c"] * 4 + ["d"]
COUNTS = torch.tensor([10] * 10 + [4] * 8 + [1])
EVERYONE = torch.arange(len(COUNTS))
STEPS = 30


def config(kind="mmts", **fields):
    made = Config(seed=fields.pop("seed", 0))
    made.control = specs.control(
        kind, alpha=0.04, shift_low=0.06, shift_high=0.12, oscillations=1.25
    )
    for path, value in fields.items():
        part, name = path.split("__")
        assert hasattr(getattr(made, part), name), path
        setattr(getattr(made, part), name, value)
    made.validate()
    return made


def build(**fields):
    return build_control(config(**fields), len(COUNTS), COUNTS, STEPS, LABELS)


def whole(step):
    share = (COUNTS.double() - 1) / 9
    return 0.02 * math.cos(2 * math.pi * step * 1.25 / STEPS) + 0.06 + share * 0.06


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "matched"},
        {"control__part": "shift"},
        {"control__part": "oscillation"},
        {"control__sizes": "reversed"},
        {"control__sizes": "shuffled", "seed": 3},
        {"control__sizes": "shuffled", "control__part": "shift"},
        {"control__sizes": "noise", "seed": 3},
    ],
)
def test_each_has_the_mean_of_the_schedule(fields):
    mean = torch.stack([whole(step) for step in range(STEPS)]).mean().item()
    assert build(**fields).mean(EVERYONE, STEPS) == pytest.approx(mean, abs=1e-7)


@pytest.mark.parametrize("step", [0, 7, 22])
def test_parts_and_mirror_of_the_schedule(step):
    expected = whole(step)
    cosine = 0.02 * math.cos(2 * math.pi * step * 1.25 / STEPS)
    over_time = sum(math.cos(2 * math.pi * t * 1.25 / STEPS) for t in range(STEPS)) / STEPS * 0.02
    shift = expected - cosine
    level = shift.mean()

    def near(control, values):
        torch.testing.assert_close(control.at(EVERYONE, step).double(), values, atol=1e-7, rtol=0)

    near(build(), expected)
    near(build(control__part="oscillation"), torch.full_like(expected, level + cosine))
    near(build(control__part="shift"), shift + over_time)
    near(build(control__sizes="reversed"), cosine + level / (1 / shift).mean() / shift)


def test_shuffled_sizes_belong_to_whole_classes_and_follow_the_seed():
    drawn = {}
    for seed in range(20):
        counts = shuffled_counts(COUNTS, LABELS, seed)
        per_class = {}
        for label, count in zip(LABELS, counts.tolist(), strict=True):
            assert per_class.setdefault(label, count) == count
        assert sorted(per_class.values()) == [1, 4, 4, 10]
        drawn[seed] = tuple(per_class.values())
    assert len(set(drawn.values())) > 5
    assert torch.equal(shuffled_counts(COUNTS, LABELS, 4), shuffled_counts(COUNTS, LABELS, 4))
    a, b = (build(control__sizes="shuffled", seed=seed).at(EVERYONE) for seed in (0, 1))
    assert not torch.equal(a, b)


def test_noise_has_the_values_of_the_shift_and_no_class():
    true = build(control__part="shift").at(EVERYONE)
    drawn = [build(control__part="shift", control__sizes="noise", seed=s) for s in (0, 1, 0)]
    values = [control.at(EVERYONE) for control in drawn]
    for value in values:
        torch.testing.assert_close(value.sort().values, true.sort().values, atol=1e-6, rtol=0)
        assert len(set(value[:10].tolist())) > 1
    assert not torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])


def test_shuffled_sizes_refuse_what_is_no_class_size():
    with pytest.raises(ValueError, match="class 'a' have different counts"):
        shuffled_counts(torch.tensor([2, 3]), ["a", "a"])
    with pytest.raises(ValueError, match="2 counts for 1 classes"):
        shuffled_counts(torch.tensor([2, 3]), ["a"])
    with pytest.raises(ValueError, match="give the class of each sample as labels"):
        build_control(config(control__sizes="shuffled"), len(COUNTS), COUNTS, STEPS)


def losses(made, steps):
    """(N,) the loss of each anchor after these steps."""
    loss_fn = build_loss(made, len(COUNTS), COUNTS, STEPS, LABELS)
    loss_fn.reduction, loss_fn.directions = "none", "x2y"
    for _ in range(steps):
        loss_fn.step()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(COUNTS), 6, generator=generator, dtype=torch.float64)
    y = torch.randn(len(COUNTS), 6, generator=generator, dtype=torch.float64)
    return loss_fn(x, y, EVERYONE).detach()


@pytest.mark.parametrize("steps", [0, 9])
def test_weight_without_shape(steps):
    plain = losses(config("matched"), steps)
    weighted = losses(config("matched", loss__weight="inverse_tau"), steps)
    mean = build(kind="matched").value
    torch.testing.assert_close(weighted / plain, mean / whole(steps), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("family", "kind"), [("maxmargin", "matched"), ("infonce", "mmts")])
def test_weights_need_a_constant_temperature(family, kind):
    with pytest.raises(ValueError, match=f"weight must be|needs control.kind=matched, got {kind}"):
        Config(loss=specs.loss(family, weight="inverse_tau"), control=specs.control(kind))


def test_a_mirrored_schedule_that_reaches_zero_is_refused():
    made = config(control__sizes="reversed", control__shift_low=0.021, control__shift_high=0.5)
    counts = torch.tensor([50] + [1] * 49)
    with pytest.raises(ValueError, match="must stay finite and > 0"):
        build_loss(made, len(counts), counts, STEPS)
    assert isinstance(build_loss(config(), len(COUNTS), COUNTS, STEPS), tt.InfoNCE)
