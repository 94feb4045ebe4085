import csv
import dataclasses
import json
from importlib import import_module

import pytest

from tauten import recipes
from tauten.cli import main
from tauten.recipes.demo import PANELS, table
from tauten.recipes.emoji import LEARNED, Schedule
from tauten.recipes.search import (
    CANDIDATES,
    LEARNED_CANDIDATES,
    candidates_around,
    parts_of,
    search,
    summary,
)
from tauten.training import Config, RunResult, session, specs
from tauten.training.build import check_loss


@pytest.mark.parametrize("name", list(recipes.RECIPES))
def test_every_recipe_is_a_configuration(name, tmp_path):
    config = recipes.get(name)(output=tmp_path / "x", epochs=3, seed=4)
    assert isinstance(config, Config)
    assert (config.name, config.seed, config.optim.epochs) == (name, 4, 3)
    assert config.output == tmp_path / "x"
    config.validate()
    check_loss(config)


def test_every_recipe_has_one_line():
    lines = recipes.describe()
    assert set(lines) == {*recipes.RECIPES, "demo", "search"}
    assert all(10 < len(line) <= 100 for line in lines.values())


def test_unknown_recipe():
    with pytest.raises(ValueError, match="no recipe 'mmts'; did you mean coco_mmts"):
        recipes.get("mmts")


@pytest.mark.parametrize("panel", PANELS)
def test_the_variants_differ_in_loss_and_control_only(tmp_path, panel):
    trees = [dataclasses.asdict(config) for config in recipes.demo(tmp_path, 5, 2, panel)]
    assert len({tree["output"] for tree in trees}) == len(PANELS[panel])
    for tree in trees:
        del tree["optim"]["loss_lr"]
        for name in ("name", "output", "control", "loss"):
            del tree[name]
    assert all(tree == trees[0] for tree in trees)


def test_constants_match_their_schedule(tmp_path):
    configs = {config.name: config for config in recipes.demo(tmp_path)}
    for family in ("infonce", "maxmargin"):
        constant = configs[f"emoji_{family}_constant"]
        schedule = configs[f"emoji_{family}_mmts"]
        assert (constant.control.kind, schedule.control.kind) == ("matched", "mmts")
        assert specs.control("mmts", **vars(constant.control)) == schedule.control
        assert constant.loss == schedule.loss


def test_learned_temperatures_are_configured_as_listed(tmp_path):
    for method, learned in LEARNED.items():
        config = recipes.get(f"emoji_{method}")(tmp_path)
        assert (config.family, config.control.kind) == (learned.family, learned.kind)
        assert (config.control.low, config.control.high) == learned.bounds
        rho = config.loss.rho if learned.family == "fastclip" else config.control.rho
        assert (rho, config.loss.gamma) == (learned.rho, learned.gamma)
        assert config.optim.loss_lr == learned.rate
        if learned.kind == "individual":
            assert config.control.lr == learned.rate


def shrink(config):
    config.data.limit, config.optim.batch_size = 64, 32
    config.model.channels, config.model.dim, config.model.text_width = (8,), 8, 8
    config.evaluation.bootstrap = 20
    config.tensorboard = False
    return config


def test_demo_runs_all_and_reports(tmp_path, monkeypatch, capsys):
    original = session.train
    monkeypatch.setattr(session, "train", lambda config: original(shrink(config)))
    report = recipes.run_demo(tmp_path / "demo", epochs=1, seeds=[0, 1], progress=False)
    assert "Settings were chosen on the validation split" in report.read_text("utf-8")
    assert report.is_file()
    assert report.parent == tmp_path / "demo"
    shown = capsys.readouterr().out
    assert "[8/8] emoji_maxmargin_mmts, seed 1" in shown
    assert "mean ± standard deviation over 2 seeds" in shown
    assert len(list((tmp_path / "demo" / "runs").iterdir())) == 2 * 4


def test_panel_of_temperatures(tmp_path, monkeypatch, capsys):
    original = session.train
    monkeypatch.setattr(session, "train", lambda config: original(shrink(config)))
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--panel", "temperatures", "--epochs", "1", "--output", "d"]) == 0
    names = ["infonce_constant", "infonce_mmts", "isogclr", "tempnet", "fastclip"]
    runs = sorted(path.name for path in (tmp_path / "d" / "runs").iterdir())
    assert runs == sorted(f"emoji_{name}-seed0" for name in names)
    _, shown = capsys.readouterr().out.split("emoji_lt test, percent")
    rows = [line.split()[0] for line in shown.splitlines() if line.startswith("emoji_")]
    assert rows == [f"emoji_{name}" for name in names]
    page = (tmp_path / "d" / "report.html").read_text("utf-8")
    for name in ("iSogCLR", "TempNet", "FastCLIP"):
        assert name in page


def test_demo_needs_a_seed(tmp_path):
    with pytest.raises(ValueError, match="at least one seed"):
        recipes.run_demo(tmp_path, seeds=0)


def test_demo_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(ValueError, match=r"not empty and holds no demo \(thesis.tex\)"):
        recipes.run_demo(tmp_path)


def test_table(tmp_path):
    def result(score):
        test = {"x2y/hit@1": score, "x2y/hit@1/low": score - 0.1, "x2y/hit@1/high": score + 0.1}
        return RunResult(tmp_path, test, {}, 1, 1, 1.0)

    one = table({"a": [result(0.5)]})
    assert "50.0 [40.0, 60.0]" in one
    assert "one seed" in one
    assert "55.0 ± 7.1" in table({"a": [result(0.5), result(0.6)]})


def test_search_is_on_validation_and_resumes(tmp_path, monkeypatch):
    original, calls = session.train, []

    def counted(config):
        if not (config.output / "results.json").exists():
            calls.append(config.name)
        result = original(shrink(config))
        return dataclasses.replace(result, test={})

    monkeypatch.setattr(session, "train", counted)
    monkeypatch.setattr(
        import_module("tauten.recipes.search"), "CONSTANTS", {"infonce": (0.07, 0.2)}
    )
    options = {"families": ("infonce",), "epochs": 1, "candidates": 2, "progress": False}
    path = search(tmp_path, seeds=(0, 1), **options)
    rows = list(csv.DictReader(path.open()))
    assert [row["stage"] for row in rows] == ["constant"] * 2 + ["mmts"] * 4 + ["confirm"] * 8
    assert len(calls) == 12  # two of the confirmed trials were run before
    scores = {row["name"]: float(row["val/mean_recall"]) for row in rows if row["seed"] == "0"}
    best = max((row["name"] for row in rows[2:4]), key=lambda name: scores[name])
    assert rows[8]["name"] == best
    assert {row["kind"] for row in rows} == {"constant", "matched", "mmts"}
    assert not any("test" in name for name in rows[0])
    found = json.loads((tmp_path / "trials.json").read_text())
    assert [item["seeds"] for item in found["summary"]] == [2, 2, 2, 2]
    calls.clear()
    assert search(tmp_path, seeds=(0, 1), **options) == path
    assert calls == []
    assert list(csv.DictReader(path.open())) == rows


def test_search_for_learned_temperatures(tmp_path, monkeypatch):
    original = session.train
    monkeypatch.setattr(session, "train", lambda config: original(shrink(config)))
    given = {"families": ("fastclip",), "epochs": 1, "candidates": 2, "progress": False}
    rows = list(csv.DictReader(search(tmp_path, seeds=(0, 1), **given).open()))
    assert [row["stage"] for row in rows] == ["learned"] * 2 + ["confirm"] * 2
    tried = LEARNED_CANDIDATES["fastclip"][:2]
    for name in ("rho", "rate", "gamma"):
        assert [float(row[name]) for row in rows[:2]] == [getattr(item, name) for item in tried]
    best = max(rows[:2], key=lambda row: float(row["val/mean_recall"]))
    assert [row["name"] for row in rows[2:]] == [best["name"]] * 2
    assert [row["seed"] for row in rows[2:]] == ["0", "1"]


def test_every_method_has_as_many_candidates_and_one_is_the_recipe():
    assert set(LEARNED_CANDIDATES) == set(LEARNED)
    for method, tried in LEARNED_CANDIDATES.items():
        assert len(set(tried)) == 6
        assert LEARNED[method] in tried


def test_candidates_keep_tau_positive_and_are_distinct():
    found = candidates_around(0.07, 1000)
    assert len(found) == len(set(found)) == len(CANDIDATES)
    assert all(schedule.shift[0] > schedule.alpha / 2 for schedule in found)
    assert candidates_around(0.07, 3) == found[:3]


def test_parts_of_a_schedule():
    whole = Schedule(0.04, (0.05, 0.09), 5.0, "equalized")
    assert parts_of(whole) == [
        Schedule(0.04, (0.07, 0.07), 5.0, "equalized"),
        Schedule(0.0, (0.05, 0.09), 5.0, "equalized"),
    ]


def test_summary():
    rows = [
        {"stage": "confirm", "name": "a", "val/mean_recall": 0.1},
        {"stage": "confirm", "name": "a", "val/mean_recall": 0.3},
        {"stage": "mmts", "name": "b", "val/mean_recall": 0.9},
    ]
    (only,) = summary(rows)
    assert (only["name"], only["seeds"], only["val/mean_recall"]) == ("a", 2, pytest.approx(0.2))
    assert only["std"] == pytest.approx(0.1414, abs=1e-4)


def test_search_errors(tmp_path):
    with pytest.raises(ValueError, match="seeds and candidates >= 1"):
        search(tmp_path, seeds=())
    with pytest.raises(ValueError, match="seeds and candidates >= 1"):
        search(tmp_path, candidates=0)
