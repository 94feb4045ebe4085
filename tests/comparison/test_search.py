"""The search for the demo's settings: what is tried, chosen on validation, and gone on with."""

import csv
import json

import pytest

from tauten import recipes
from tauten.comparison import search as home
from tauten.comparison.catalogue import METHODS
from tauten.comparison.grid import Grid
from tauten.comparison.methods import configure, trials
from tauten.comparison.search import CONSTANTS, LEARNED, SCHEDULES, around, search


@pytest.fixture
def on_heads(make_grid, monkeypatch):
    """The same grids with trainings of heads on synthetic pairs; the cells that were trained."""
    trained = []

    def grid(output, settings, **fields):
        assert settings == {"optim.epochs": 2, "evaluation.every": 1.0}
        return make_grid(output, **({"trials": 6} | fields))

    def run_cell(cell, *args):
        trained.append(cell)
        return original(cell, *args)

    from tauten.comparison import train, tuning

    original = train.run_cell
    monkeypatch.setattr(home, "Grid", grid)
    monkeypatch.setattr(train, "run_cell", run_cell)
    monkeypatch.setattr(tuning, "run_cell", run_cell)
    return trained


def table(path):
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_schedules_are_searched_around_the_best_constant(tmp_path, on_heads, monkeypatch):
    monkeypatch.setitem(CONSTANTS, "infonce", ({"control.value": 0.03}, {"control.value": 0.2}))
    options = {"families": ("infonce",), "epochs": 2, "candidates": 2, "progress": False}
    path = search(tmp_path, seeds=(0, 1), **options)
    rows = table(path)
    tuned = [row for row in rows if row["setting"].startswith("trial-")]
    assert [row["control"] for row in tuned] == ["constant"] * 3 + ["mmts"] * 3
    assert not any(cell.test for cell in on_heads if cell.setting.startswith("trial-"))
    scores = {json.loads(r["settings"])["control.value"]: float(r["val"]) for r in tuned[:3]}
    level = max(scores, key=scores.get)
    tried = [json.loads(row["settings"]) for row in tuned[4:]]
    assert tried == [{**one, "control.kind": "mmts"} for one in around(level, 2)]
    final = {(row["control"], row["setting"], row["seed"]) for row in rows[len(tuned) :]}
    assert {control for control, *_ in final} == {"constant", "matched", "ts", "ics", "mmts"}
    assert {seed for *_, seed in final} == {"0", "1"}
    assert (tmp_path / "infonce" / "comparison.md").is_file()
    page = (tmp_path / "infonce" / "comparison.html").read_text("utf-8")
    assert "the default and those listed: 2 of constant, 2 of mmts" in page
    before = path.read_text()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert search(tmp_path, seeds=(0, 1), **options).read_text() == before
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


def test_learned_temperatures_have_listed_settings(tmp_path, on_heads):
    given = {"families": ("fastclip",), "epochs": 2, "candidates": 2, "progress": False}
    rows = table(search(tmp_path, seeds=(0,), **given))
    tried = [json.loads(row["settings"]) for row in rows if row["setting"].startswith("trial-")]
    assert len(tried) == 3
    for settings, learned in zip(tried[1:], LEARNED["fastclip"], strict=False):
        assert settings["loss.rho"] == learned.rho
        assert settings["optim.loss_lr"] == learned.rate
        assert (settings["control.low"], settings["control.high"]) == learned.bounds
    assert {row["control"] for row in rows} == {"fastclip-v3"}


@pytest.mark.parametrize("method", LEARNED)
def test_six_settings_of_each_are_tried_and_one_is_the_recipe(method):
    assert len(set(LEARNED[method])) == 6
    chosen = recipes.LEARNED[method]
    assert chosen in LEARNED[method]
    control = "fastclip-v3" if method == "fastclip" else method
    tried = METHODS[control].trying([chosen.settings()])
    config = configure(Grid("unused").base(), tried, chosen.settings())
    recipe = recipes.get(f"emoji_{method}")()
    assert (config.control, config.optim) == (recipe.control, recipe.optim)
    assert config.loss == recipe.loss


def test_schedules_keep_tau_positive_and_are_distinct():
    found = around(0.07, 1000)
    assert len(found) == len({tuple(one.items()) for one in found}) == len(SCHEDULES)
    assert all(one["control.shift_low"] > one["control.alpha"] / 2 for one in found)
    assert around(0.07, 3) == found[:3]


def test_settings_to_try_take_the_place_of_draws():
    base, method = Grid("unused").base(), METHODS["constant"]
    listed = [{"control.value": 0.07}, {"control.value": 0.5}]
    assert trials(method.trying(listed), base, 9, seed=0) == listed  # the first is the default
    with pytest.raises(ValueError, match="no setting 'control.alpha'"):
        trials(method.trying([{"control.alpha": 1.0}]), base, 2, seed=0)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="seeds must be 1 or more"):
        search(tmp_path, seeds=())
    with pytest.raises(ValueError, match="candidates must be 1 or more"):
        search(tmp_path, candidates=0)
