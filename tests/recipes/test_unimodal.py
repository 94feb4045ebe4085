import dataclasses
import json
import re

import pytest

from tauten import recipes
from tauten.cli import main
from tauten.recipes import recipes_of, unimodal
from tauten.training.build import check_loss
from tauten.training.encoders import build_view_encoder

NAMES = list(recipes_of(unimodal))


def data_of(name):
    """The family of the split that a recipe is on."""
    data, _, method = name.rpartition("_")
    if not data.startswith("cifar"):
        return data
    return f"{data}_isogclr" if method == "isogclr" else f"{data}_sdclr"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("trial", [False, True])
def test_every_recipe_is_of_two_views_and_names_its_data(name, trial):
    config = recipes.get(name)()
    if trial:
        config = recipes.runlocal(config, "caltech98_lt:data")
    config.validate()
    check_loss(config)
    assert config.task == "views"
    assert config.loss.views
    source, _, root = config.data.source.partition(":")
    assert source == ("caltech98_lt" if trial else data_of(name))
    assert root == ("data" if trial else f"data/{source}")


@pytest.mark.parametrize("name", NAMES)
def test_a_local_run_is_short_and_needs_no_data(name):
    config = recipes.runlocal(recipes.get(name)())
    assert config.data.source == "emoji_lt"
    assert config.optim.epochs <= 6
    assert config.model.image == "convolutional"


def test_rows_of_ts_have_the_published_settings(tmp_path):
    for name, epochs, batch in (("cifar10_lt_ts", 2000, 512), ("imagenet100_lt_ts", 800, 256)):
        config = recipes.get(name)(tmp_path)
        optim, control = config.optim, config.control
        assert (optim.name, optim.lr, optim.weight_decay, optim.momentum) == ("sgd", 0.5, 1e-4, 0.9)
        assert (optim.epochs, optim.batch_size, optim.min_lr) == (epochs, batch, 1e-6)
        assert optim.warmup * epochs == pytest.approx(10)
        assert (control.kind, control.low, control.high, control.every) == (
            "cosine", 0.1, 1.0, "epoch",
        )  # fmt: skip
        assert epochs / control.oscillations == 400
        assert (config.model.projector, config.model.dim) == ("mlp", 128)
    assert dataclasses.astuple(recipes.get("cifar10_lt_ts")().model.views) == (
        0.1, 0.5, 0.4, 0.4, 0.4, 0.1, 0.8, 0.2, 0.0,
    )  # fmt: skip
    assert build_view_encoder(recipes.get("cifar10_lt_ts")().model).tower.describe() == {
        "kind": "resnet",
        "depth": 18,
        "stem": "cifar",
    }


def test_small_recipes_differ_in_method_only(tmp_path):
    trees = [dataclasses.asdict(recipes.get(name)(tmp_path)) for name in NAMES[:4]]
    for tree in trees:
        for name in ("name", "control", "loss"):
            del tree[name]
    assert all(tree == trees[0] for tree in trees)


def test_controls_are_not_shared():
    first, second = (recipes.get("caltech98_lt_simclr")() for _ in range(2))
    first.control.value = 9.0
    assert second.control.value == 0.2


def test_the_command_line_trains_one(tmp_path, capsys):
    words = ["train", "caltech98_lt_moco", "--data", "emoji_lt", "--output", str(tmp_path / "run")]
    small = {
        "epochs": 1,
        "data.limit": 64,
        "optim.batch-size": 32,
        "model.channels": 8,
        "model.dim": 8,
        "evaluation.bootstrap": 10,
    }
    words += [word for name, value in small.items() for word in (f"--{name}", str(value))]
    assert main([*words, "--no-tensorboard", "--no-progress"]) == 0
    shown = capsys.readouterr().out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    mean = 100 * results["test"]["knn@10/class_mean"]
    assert re.search(rf"^knn@10 +[\d.]+ \[.*?\] +{mean:.1f}\b", shown, re.M)
    assert results["task"] == "views"
    assert results["protocol"]["data"].startswith("emoji_lt: train 64")


def test_missing_data_is_said_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "cifar10_lt_ts", "--output", "run"]) == 1
    assert "no such folder: data/cifar10_lt_sdclr" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
