import dataclasses
import inspect

import pytest

from tauten import recipes
from tauten.cli import main
from tauten.experiments import EXPERIMENTS
from tauten.recipes.demo import PANELS, table
from tauten.recipes.emoji import LEARNED
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
    listed = [*recipes.RECIPES.values(), *EXPERIMENTS.values()]
    assert all(10 < len(one.line) <= 100 for one in listed)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_found_by_its_name(name):
    assert "output" in inspect.signature(EXPERIMENTS[name].load()).parameters


def test_unknown_recipe():
    with pytest.raises(ValueError, match="no recipe 'mmts'; did you mean coco_mmts"):
        recipes.get("mmts")
    with pytest.raises(ValueError, match="no recipe 'serach'; did you mean search"):
        recipes.get("serach", EXPERIMENTS)


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
    assert "[12/12] emoji_maxmargin_mmts, seed 1" in shown
    assert "mean ± standard deviation over 2 seeds" in shown
    assert len(list((tmp_path / "demo" / "runs").iterdir())) == 2 * 6


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
    assert rows == 2 * [f"emoji_{name}" for name in names]
    page = (tmp_path / "d" / "report.html").read_text("utf-8")
    for name in ("iSogCLR", "TempNet", "FastCLIP"):
        assert name in page


def test_demo_needs_a_seed(tmp_path):
    with pytest.raises(ValueError, match="seeds must be 1 or more"):
        recipes.run_demo(tmp_path, seeds=0)


def test_demo_refuses_a_folder_with_other_files(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(ValueError, match=r"not empty and holds no demo \(thesis.tex\)"):
        recipes.run_demo(tmp_path)


def test_table(tmp_path):
    def result(score):
        test = {"x2y/hit@1": score, "x2y/hit@1/low": score - 0.1, "x2y/hit@1/high": score + 0.1}
        test["class_map/head"] = score / 2
        return RunResult(tmp_path, test, {}, 1, 1, 1.0)

    one = table({"a": [result(0.5)]})
    pairs, classes = one.split("classes:")
    assert "50.0 [40.0, 60.0]" in pairs
    assert classes.splitlines()[-1].split() == ["a", "–", "25.0", "–", "–"]
    assert "one seed" in one
    assert "55.0 ± 7.1" in table({"a": [result(0.5), result(0.6)]})
