"""Recipes of the papers' rows: what they say, what they build, and that their trials train."""

import json
import re
from pathlib import Path

import pytest

from tauten import recipes
from tauten.cli import main
from tauten.recipes import (
    RECIPES,
    Recipe,
    captioned,
    cc3m,
    epic_kitchens,
    recipes_of,
    unimodal,
)
from tauten.training import Config, specs, train
from tauten.training.loop.trainer import ContrastiveTrainer

PAPERS = recipes_of(cc3m, epic_kitchens, captioned).values()
NAMES = [recipe.name for recipe in PAPERS]
every_paper = pytest.mark.parametrize("recipe", PAPERS, ids=NAMES)

#: README of MM-TS, table of TempNet's repository
FIGURES = {
    "cc3m_clip": ("21.3", "26.9", "40.9", "50.9"),
    "cc3m_mmts": ("21.2", "28.4", "41.5", "54.3"),
    "cc3m_sogclr": ("22.43", "30.08", "43.32", "57.18"),
    "cc3m_isogclr": ("23.27", "32.72", "44.36", "60.20"),
    "cc3m_tempnet": ("24.83", "34.50", "46.17", "62.51"),
    "epic_kitchens_margin": ("55.7", "48.2", "52.0", "67.8", "65.3", "66.5"),
    "epic_kitchens_mmts": ("58.8", "48.9", "53.9", "68.9", "65.8", "67.3"),
    "epic_kitchens_clips_margin": ("55.7", "48.2", "52.0", "67.8", "65.3", "66.5"),
    "epic_kitchens_clips_mmts": ("58.8", "48.9", "53.9", "68.9", "65.8", "67.3"),
    "epic_kitchens_clips_vitl": ("57.9", "51.1", "54.5", "70.4", "67.6", "69.0"),
    "youcook2_mmts": ("53.0", "77.1", "84.5"),
}


@every_paper
def test_a_recipe_says_command_data_and_published_number(recipe):
    assert recipe.command.startswith(f"tauten train {recipe.name} --data {recipe.dataset}:")
    assert recipe.data
    assert bool(recipe.published) == bool(recipe.source)
    assert recipe.published or recipe.figures() == f"none; {recipe.remark}"
    for figure in FIGURES.get(recipe.name, ()):
        assert re.search(rf"\b{re.escape(figure)}\b", recipe.published)
    assert recipe.choice or recipe.name.endswith("matched")


def test_what_is_known_of_a_recipe_in_paragraphs():
    def build(epochs):
        """Something small."""
        return Config()

    given = {"options": "--data x:F", "published": "R@1 1.0", "source": "a table", "choice": "all."}
    assert Recipe(build, epochs=2.0, **given).text().split("\n\n") == [
        "Something small.",
        "Command: tauten train build --data x:F",
        "Published: R@1 1.0 (a table).",
        "Our choice: all.",
    ]
    noted = Recipe(build, epochs=2.0, remark="not run.", then="--data y:G")
    assert noted.text().split("\n\n")[1:] == [
        "Command: tauten train build, then tauten evaluate runs/build --data y:G",
        "Published: none; not run.",
    ]
    assert Recipe(build, epochs=2.0).text() == "Something small."


@every_paper
def test_the_command_is_understood_and_leads_to_the_recipe(recipe, monkeypatch):
    from tauten import training

    trained = []

    def stand_in(config):
        trained.append(config)
        return training.RunResult(config.output, {}, {}, 0, 0, 0.0)

    monkeypatch.setattr(training, "train", stand_in)
    command = recipe.command.split(", then ")[0]
    assert main(command.split()[1:]) == 0
    assert trained[0].name == recipe.name
    assert trained[0].data.source.partition(":")[2]


def test_controls_of_schedules_have_their_mean():
    by_name = {recipe.name: recipe() for recipe in PAPERS}
    pairs = [
        ("cc3m_mmts", "cc3m_mmts_matched"),
        ("epic_kitchens_mmts", "epic_kitchens_matched"),
        ("epic_kitchens_clips_mmts", "epic_kitchens_clips_matched"),
        ("youcook2_mmts", "youcook2_matched"),
        ("flickr30k_mmts", "flickr30k_matched"),
        ("coco_mmts", "coco_matched"),
    ]
    for schedule, constant in pairs:
        one, other = by_name[schedule], by_name[constant]
        assert (one.control.kind, other.control.kind) == ("mmts", "matched")
        other.control = specs.control("mmts", **vars(other.control))
        other.name, other.output = one.name, one.output
        assert one == other
    ts, constant = by_name["cc3m_ts"].control, by_name["cc3m_ts_matched"].control
    assert constant.value == pytest.approx((ts.low + ts.high) / 2)
    assert by_name["epic_kitchens_ts"].control.part == "oscillation"


def test_published_settings():
    epic = RECIPES["epic_kitchens_mmts"]().control
    assert (epic.alpha, epic.shift_low, epic.shift_high, epic.oscillations) == (0.2, 0.17, 0.30, 5)
    assert RECIPES["epic_kitchens_margin"]().control.value == 0.2
    clips = RECIPES["epic_kitchens_clips_margin"]()
    assert (clips.control.value, clips.data.frames, clips.data.image_size) == (0.2, 16, 224)
    assert (clips.optim.lr, clips.optim.min_lr, clips.optim.batch_size) == (3e-5, 1e-5, 512)
    assert clips.optim.warmup == pytest.approx(1 / 100)
    sms, adaptive = RECIPES["epic_kitchens_sms"](), RECIPES["epic_kitchens_adaptive"]()
    assert (sms.family, sms.control.value) == ("sms", 0.6)
    assert (adaptive.loss.adaptive, adaptive.control.value) == (True, 0.4)
    fast = RECIPES["cc3m_fastclip_v3"]()
    assert (fast.loss.rho, fast.loss.gamma, fast.optim.batch_size) == (6.5, 0.2, 1024)
    for name in ("cc3m_clip", "cc3m_sogclr", "cc3m_isogclr"):
        assert RECIPES[name]().control.value == 0.01
        assert not RECIPES[name]().loss.mask_duplicates


def test_the_list_and_the_page_of_a_recipe(capsys):
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert "cc3m_mmts" in shown
    assert "on cc3m, published: COCO IR@1 21.2, TR@1 28.4" in shown
    assert main(["recipes", "cc3m_isogclr"]) == 0
    shown = capsys.readouterr().out
    assert "Our choice: as for cc3m_sogclr." in shown
    assert "rho: 6.0" in shown
    assert main(["recipes", "cc3m"]) == 1
    assert "no recipe 'cc3m'; did you mean" in capsys.readouterr().err


def test_the_page_has_the_table_of_the_recipes():
    page = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
    assert recipes.table(RECIPES) in page.read_text(encoding="utf-8")


def small(config: Config, tmp_path) -> Config:
    """A trial of two steps."""
    config.output = tmp_path / "run"
    config.progress = config.tensorboard = False
    config.data.limit, config.log_every = 96, 1
    config.model.channels, config.model.dim, config.model.text_width = (8,), 16, 16
    config.optim.batch_size, config.optim.epochs = 32, 1
    config.evaluation.every, config.evaluation.bootstrap = 1, 2
    config.evaluation.probe = "none"
    return config


@every_paper
def test_every_trial_trains_on_the_embedded_data(recipe, tmp_path):
    whole = recipe()
    config = recipes.runlocal(whole)
    assert (config.family, config.control.kind) == (whole.family, whole.control.kind)
    assert config.loss == whole.loss
    assert whole.runlocal is False
    result = train(small(config, tmp_path))
    assert result.total_steps == 3
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["name"] == f"{recipe.name} (runlocal)"
    assert "trial of a few steps on emoji_lt" in found["protocol"]["runlocal"]
    assert found["record"]["config"]["seed"] == 0
    graded = recipe.dataset == "epic_kitchens"
    assert ("multi_instance/mAP_official/mean" in found["test"]) == graded


@pytest.mark.parametrize("recipe", recipes_of(unimodal).values(), ids=lambda recipe: recipe.name)
def test_every_trial_of_views_trains(recipe, tmp_path):
    config = small(recipes.runlocal(recipe()), tmp_path)
    config.data.groups = "counts"
    config.loss = specs.at_most(config.loss, queue=64)
    assert train(config).total_steps == 3
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["name"] == f"{recipe.name} (runlocal)"
    assert "runlocal" in found["protocol"]


def test_trials_on_photos_with_five_captions(tmp_path, shared_data):
    config = recipes.runlocal(RECIPES["cc3m_clip"](), f"coco35:{shared_data}")
    assert (config.optim.batch_size, config.data.protocol) == (8, "all")
    config.output, config.optim.epochs, config.progress = tmp_path / "run", 1, False
    config.tensorboard = False
    result = train(config)
    assert result.test["n/x2y" if "n/x2y" in result.test else "x2y/n"] == 7
    found = json.loads((tmp_path / "run" / "results.json").read_text())["protocol"]
    assert found["data"].startswith("coco35 (Karpathy's layout), fingerprint ")
    assert "7 test images against 35 different captions" in found["retrieval"]


def test_a_trial_on_the_real_annotations_with_synthetic_features(tmp_path, shared_data, capsys):
    words = f"--runlocal --data epic_kitchens:{shared_data / 'ek100'} --epochs 1 --data.limit 96"
    words += f" --output {tmp_path / 'run'} --optim.batch-size 32 --no-tensorboard --no-progress"
    assert main(["train", "epic_kitchens_mmts", *words.split()]) == 0
    shown = capsys.readouterr().out
    assert "features: synthetic features: random vectors" in shown
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    mean = 100 * found["test"]["multi_instance/mAP_official/x2y"]
    assert re.search(rf"^multi_instance/mAP_official/x2y +{mean:.1f} ", shown, re.M)
    assert "of no video" in found["protocol"]["features"]
    assert "share of common noun classes" in found["protocol"]["multi_instance"]
    assert found["record"]["config"]["data"]["features"] == "synthetic"


def interrupted(config: Config, monkeypatch) -> None:
    """Train until the third step, in which the user ends it."""
    whole, calls = ContrastiveTrainer.compute_loss, []

    def compute_loss(self, *given, **named):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(ContrastiveTrainer, "compute_loss", compute_loss)
        with pytest.raises(KeyboardInterrupt):
            train(config)


@pytest.mark.parametrize("name", ["cc3m_isogclr", "epic_kitchens_mmts", "caltech98_lt_moco"])
def test_an_interrupted_trial_goes_on(name, tmp_path, monkeypatch, request):
    source = None
    if name.startswith("epic"):
        source = f"epic_kitchens:{request.getfixturevalue('shared_data') / 'ek100'}"
    found = []
    for folder in ("whole", "broken"):
        config = small(recipes.runlocal(RECIPES[name](), source), tmp_path / folder)
        config.loss = specs.at_most(config.loss, queue=64)
        config.evaluation.every = 1 / 3
        if folder == "broken":
            interrupted(config, monkeypatch)
            assert not (config.output / "results.json").exists()
        train(config)
        found.append(json.loads((config.output / "results.json").read_text()))
        for key in ("wall_s", "run", "seal"):
            del found[-1][key]
    assert found[0] == found[1]


def test_a_trial_of_views_keeps_the_projector_and_may_read_caltech98():
    whole = RECIPES["caltech98_lt_moco"]()
    config = recipes.runlocal(whole, "caltech98_lt:folder")
    assert (config.model.projector, config.data.source) == ("linear", "caltech98_lt:folder")
    assert (config.loss.queue, whole.loss.queue) == (1024, 2048)
    assert recipes.runlocal(whole, "emoji_video:folder").data.source == "emoji_lt"


def test_rows_without_data_say_what_is_missing(tmp_path):
    config = RECIPES["cc3m_clip"](tmp_path / "run")
    with pytest.raises(ValueError, match=r"the folder of cc3m is missing: give --data cc3m:FOLDER"):
        train(config)
    config = RECIPES["epic_kitchens_mmts"](tmp_path / "run")
    with pytest.raises(ValueError, match="set data.features=FILE"):
        train(config)
    assert not (tmp_path / "run").exists()
