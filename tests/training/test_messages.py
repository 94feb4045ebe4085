"""What a training says of itself: sizes, evaluations, results, and what can follow."""

import logging
import re
import shlex
import sys
from types import SimpleNamespace

import pytest
import torch

from tauten.cli import main
from tauten.controls import Constant, Cosine
from tauten.losses import InfoNCE
from tauten.training import Config, DataConfig, messages, train
from tauten.training.loop.steps import Steps
from tauten.training.options.config import EvaluationConfig
from tauten.training.stores.classes import Classes

STEPS = Steps(per_epoch=3, total=12, between=6)
SPLITS = {"train": range(1200), "val": range(10), "test": range(12)}


def of_task(task, **fields):
    metric = "last" if task == "views" else "mean_recall"
    return Config(task=task, evaluation=EvaluationConfig(metric=metric), **fields)


def opened(config, classes=None, control=None, at=0):
    encoder = torch.nn.Linear(3, 4)
    encoder.bias.requires_grad_(False)
    loss_fn = InfoNCE(temperature=control or Constant(0.07))
    module = SimpleNamespace(encoder=encoder, loss_fn=loss_fn)
    return messages.opening(config, SPLITS, classes, module, STEPS, at)


def test_the_opening_has_sizes_classes_parameters_and_steps():
    config = Config()
    config.optim.batch_size, config.optim.accumulation = 4, 2
    classes = Classes({"cat": 1000, "dog": 150, "newt": 50}, head=100, tail=20)
    images, model, loss, steps = opened(config, classes)
    assert images == (
        "images: train 1,200, val 10, test 12; 3 classes of 1,000 to 50 training samples: "
        "2 head, 1 mid"
    )
    assert model == "model: convolutional and words, 16 parameters, 12 trained"
    assert loss == "loss: infonce, temperature 0.07"
    assert steps.startswith("steps: 12 of 8 samples, 3 an epoch, evaluated every 6; on cpu, ")


@pytest.mark.parametrize(("first", "said"), [("text", True), ("title", False)])
def test_the_opening_tells_that_each_text_finds_itself(first, said):
    config = Config(data=DataConfig(source="a", texts=True, image=first, caption="text"))
    lines = opened(config, None)
    assert any("each text finds itself" in line for line in lines) is said


def test_the_opening_tells_where_a_training_goes_on_and_how_far_a_temperature_moves():
    lines = opened(of_task("views"), None, Cosine(0.05, 0.2, 10), at=6)
    assert lines[0].endswith("no classes, so no head, mid and tail")
    assert lines[1].startswith("model: convolutional, ")
    assert lines[2].endswith("temperature 0.05 to 0.2")
    assert "goes on at step 6" in lines[3]


@pytest.mark.parametrize("task", ["pairs", "views"])
def test_the_closing_names_commands_that_are_understood(task, tmp_path, monkeypatch):
    config = of_task(task, output=tmp_path / "my run")
    lines = messages.closing(config, {}, 6, 12)
    following = [shlex.split(re.split(" {2,}", line.strip())[0]) for line in lines]
    following = [words for words in following if words[:1] == ["tauten"]]
    asked = []
    for command in (
        *("report._report", "evaluate._evaluate"),
        *("inference._embed", "inference._search"),
    ):
        monkeypatch.setattr(f"tauten.cli.{command}", asked.append)
    assert [main(words[1:]) for words in following] == [0] * len(following)
    assert len(asked) == len(following) == (4 if task == "pairs" else 3)
    assert [options.runs for options in asked if "runs" in options] == [[tmp_path / "my run"]]


def test_without_a_terminal_each_evaluation_is_a_line(make_config, tmp_path, caplog):
    config = make_config(tmp_path / "run")
    with caplog.at_level(logging.INFO, "tauten.training"):
        result = train(config)
        again = train(config)
    told = [record.getMessage() for record in caplog.records]
    evaluated = [line for line in told if re.match(r"epoch \d of 2|epoch", line)]
    assert [line.split(":")[0] for line in evaluated] == [
        "epoch 1, step 3 of 6",
        "epoch 2, step 6 of 6",
    ]
    assert all("val/mean_recall" in line and "loss" in line for line in evaluated)
    assert [line.split(":")[0] for line in told[told.index(evaluated[0]) - 4 :][:4]] == [
        *("images", "model", "loss", "steps")
    ]
    assert told[-1].endswith("has finished, nothing is left to train")
    assert again.test == result.test


@pytest.mark.parametrize(("asked", "terminal"), [(True, True), (True, False), (False, True)])
def test_bars_are_drawn_on_a_terminal_where_they_are_asked_for(asked, terminal, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert messages.with_bars(Config(progress=asked)) is (asked and terminal)
