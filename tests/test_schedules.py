"""The published schedules, from the recipes' configurations: values and turning points."""

from pathlib import Path

import pytest
import torch

from by_path import load
from tauten.recipes import get
from tauten.training.build import build_control

ROOT = Path(__file__).resolve().parents[1]


schedules = load(ROOT / "benchmarks" / "schedules.py", "schedules")
CASES = {case.recipe: case for case in schedules.CASES}

#: lowest and highest value of each line, and where it has them, by hand from the publications:
#: TS is 0.1 to 1.0 with half a period of 200 epochs; MM-TS oscillates five times by ± α/2 around
#: the shift, α = 0.04 and 0.04 to 0.08 on CC3M, 0.2 and 0.17 to 0.30 on EPIC-KITCHENS-100 with 131
#: steps in each of 100 epochs, where a noun class of 1,000 clips has the shift 0.2058893
PUBLISHED = {
    "cifar10_lt_ts": (
        {"all": (0.1, 1.0)},
        [200, 600, 1000, 1400, 1800],
        [400, 800, 1200, 1600, 2000],
    ),
    "cc3m_mmts": (
        {"tail": (0.02, 0.06), "mid": (0.04, 0.08), "head": (0.06, 0.10)},
        [16_992, 50_976, 84_960, 118_944, 152_928],
        [0, 33_984, 67_968, 101_952, 135_936, 169_920],
    ),
    "epic_kitchens_mmts": (
        {"tail": (0.07, 0.27), "mid": (0.1058893, 0.3058893), "head": (0.20, 0.40)},
        [1310, 3930, 6550, 9170, 11_790],
        [0, 2620, 5240, 7860, 10_480, 13_100],
    ),
}


@pytest.mark.parametrize("recipe", list(PUBLISHED))
def test_the_drawn_curves_turn_where_they_are_published_to(recipe):
    ends, low, high = PUBLISHED[recipe]
    place, drawn = schedules.curves(CASES[recipe])
    assert list(drawn) == list(ends)
    for name, values in drawn.items():
        found = schedules.turns(place, values)
        assert [at for at, _ in found["low"]] == low
        assert [at for at, _ in found["high"]] == high
        assert [value for _, value in found["low"]] == pytest.approx([ends[name][0]] * 5, abs=1e-6)
        assert {round(value, 6) for _, value in found["high"]} == {round(ends[name][1], 6)}


def test_ts_has_its_values_by_epoch():
    place, drawn = schedules.curves(CASES["cifar10_lt_ts"])
    at = dict(zip(place, drawn["all"], strict=True))
    assert [at[e] for e in (1, 100, 200, 300, 400)] == pytest.approx(
        [0.9999445, 0.55, 0.1, 0.55, 1.0], abs=1e-6
    )
    assert sum(at.values()) / len(at) == pytest.approx(0.55, abs=1e-6)


@pytest.mark.parametrize(
    ("recipe", "epochs", "low", "high"),
    [
        ("cifar100_lt_ts", 2000, [200, 600, 1000, 1400, 1800], [400, 800, 1200, 1600, 2000]),
        ("imagenet100_lt_ts", 800, [200, 600], [400, 800]),
    ],
)
def test_ts_has_one_period_on_all_sets(recipe, epochs, low, high):
    place, drawn = schedules.curves(schedules.Case(recipe, "", 20, {"all": 1}, by_epoch=True))
    assert (place[0], place[-1]) == (1, epochs)
    found = schedules.turns(place, drawn["all"])
    assert {kind: [at for at, _ in points] for kind, points in found.items()} == {
        "low": low,
        "high": high,
    }


def test_ts_alone_on_cc3m_is_the_oscillation():
    place, drawn = schedules.curves(schedules.Case("cc3m_ts", "", 5664, {"all": 1}))
    found = schedules.turns(place, drawn["all"])
    assert [round(value, 6) for _, value in found["low"]] == [0.01] * 5
    assert [round(value, 6) for _, value in found["high"]] == [0.05] * 6
    assert found["low"][0][0] == 16_992


def test_the_margins_of_epic_kitchens_are_the_published_vectors():
    """At the top, the middle and the bottom of a period, clips of classes of 2, 1,000 and 3,617."""
    config = get("epic_kitchens_mmts")()
    control = build_control(config, 3, torch.tensor([2, 1000, 3617]), 100 * 131)
    for step, told in (
        (0, [0.27, 0.3058893, 0.40]),
        (655, [0.17, 0.2058893, 0.30]),
        (1310, [0.07, 0.1058893, 0.20]),
    ):
        assert control.at(torch.arange(3), step).tolist() == pytest.approx(told, abs=1e-6)
    assert control.range() == pytest.approx((0.07, 0.40))


def test_turns_are_those_of_a_curve_by_hand():
    found = schedules.turns([1, 2, 3, 4, 5, 6], [2.0, 1.0, 3.0, 2.5, 1.0, 1.5])
    assert found == {"low": [(2, 1.0), (5, 1.0)], "high": [(3, 3.0)]}


def test_the_figure_is_in_the_documentation():
    page = (ROOT / "docs" / "controls.md").read_text(encoding="utf-8")
    assert "(images/schedules.svg)" in page
    text = schedules.FIGURE.read_text(encoding="utf-8")
    assert text.startswith("<?xml")
    for case in schedules.CASES:
        assert case.title in text
