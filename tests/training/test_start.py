"""Starting weights from another run, trainings that are made longer, configurations in files."""

import dataclasses
import json
import logging
import shutil

import pytest
import torch
import yaml

from tauten.cli import main
from tauten.recipes.config_file import read_config
from tauten.training import specs, train
from tauten.training.build import build_loss
from tauten.training.encoders import build_view_encoder, image_tower, text_tower
from tauten.training.initial import as_run, initial
from tauten.training.options.words import config_file, parsed
from tauten.training.run.places import located, portable
from tauten.training.run.result import load_result
from tauten.training.tasks.loading import load_encoder

QUIET = ["--no-progress", "--no-tensorboard", "--evaluation.bootstrap", "0"]


@pytest.fixture
def best(finished_run):
    return load_encoder(finished_run.output / "checkpoints" / "best")


@pytest.fixture
def fresh(make_config, finished_run, tmp_path):
    return make_config(tmp_path / "new", init=str(finished_run.output))


def same(one, two):
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def started(start, config, size):
    """The towers of another run, those that do not fit as configured."""
    model = config.model
    return start.dual(config, lambda: image_tower(model), lambda: text_tower(model, size))


def test_a_model_of_the_same_shape_begins_with_all_weights_of_the_run(fresh, best):
    start = initial(fresh)
    found = started(start, fresh, 100)
    encoder, tokenizer, _ = best
    assert same(found, encoder)
    assert start.tokenizer_for(fresh, ["qqqq zzzz"]).vocabulary == tokenizer.vocabulary
    start.say()
    assert start.anew == []
    parts = "image tower, tokenizer and text tower, image projection, text projection"
    assert start.summary() == f"{parts} of run, step {start.step}"


def test_parts_of_another_shape_begin_anew_and_are_named(fresh, best, caplog):
    fresh.model.text, fresh.model.dim = "ngrams", 16
    start = initial(fresh)
    assert start.tokenizer_for(fresh, ["a cat"]) is None
    found = started(start, fresh, 100)
    with caplog.at_level(logging.WARNING):
        start.say()
    assert same(found.image_tower, best[0].image_tower)
    assert found.image_projection.out_features == found.text_projection.out_features == 16
    assert "text tower and tokenizer (model.text='ngrams', was 'words')" in caplog.text
    assert "image projection (another width or kind)" in caplog.text


def test_a_run_of_which_no_tower_fits_is_refused(fresh):
    fresh.model.text, fresh.model.channels = "ngrams", (4,)
    start = initial(fresh)
    started(start, fresh, 100)
    with pytest.raises(ValueError, match=r"no tower of that run fits: image tower \(model\.chan"):
        start.say()


def test_two_views_take_the_image_tower_of_pairs(fresh, best):
    fresh.task = "views"
    start = initial(fresh)
    found = start.views(fresh, build_view_encoder(fresh.model))
    assert same(found.tower, best[0].image_tower)
    assert start.taken == ["image tower"]


def test_parameters_of_the_same_loss_and_control_are_taken(fresh, tmp_path):
    from safetensors.torch import save_file

    learned = dataclasses.replace(fresh, control=specs.control("learnable"))
    start = dataclasses.replace(initial(fresh), config=learned, checkpoint=tmp_path)
    loss_fn = build_loss(learned, 4, None, total_steps=10)
    ((name, parameter),) = loss_fn.named_parameters()
    before = parameter.detach().clone()
    save_file({f"loss_fn.{name}": before - 1}, tmp_path / "model.safetensors")
    start.loss(learned, loss_fn)
    assert torch.equal(parameter, before - 1)
    other = dataclasses.replace(learned, control=specs.control("learnable", value=0.2))
    start.loss(other, loss_fn)
    assert start.taken == ["parameters of the loss"]
    assert start.anew == ["parameters of the loss (another loss or control)"]


def test_what_is_no_run_is_refused(fresh, tmp_path):
    fresh.init = str(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"init=.*nowhere: .*is no folder: give a run"):
        initial(fresh)


def test_the_command_line_takes_the_model_of_the_run(finished_run, make_config, tmp_path):
    config = parsed("x", "", make_config(tmp_path), ["--init", str(finished_run.output)])
    assert config.model.channels == (8,)
    usual = parsed(
        "x", "", type(config)(), ["--init", str(finished_run.output), "--model.dim", "4"]
    )
    assert (usual.model.channels, usual.model.dim) == ((8,), 4)
    assert as_run(usual, str(finished_run.output)).model.dim == 8


def test_how_the_run_was_trained_is_not_taken(finished_run, make_config, tmp_path, monkeypatch):
    from tauten.training import initial as module

    frozen = make_config(tmp_path)
    frozen.model.freeze, frozen.model.checkpointing = "both", True
    record = type("Record", (), {"config": lambda self: frozen})()
    monkeypatch.setattr(module, "find_checkpoint", lambda place: (place, record))
    model = as_run(make_config(tmp_path), "run").model
    assert (model.freeze, model.checkpointing, model.dim) == ("none", False, frozen.model.dim)


def test_the_place_of_the_run_is_written_relative_to_the_new_one(fresh, tmp_path):
    from tauten.training import to_dict

    tree = portable(to_dict(fresh), fresh.output)
    assert not tree["init"].startswith("/")
    assert located(tree, fresh.output)["init"] == fresh.init


@pytest.fixture(scope="module")
def continued(finished_run, tmp_path_factory):
    """A run from another one's weights, then made longer."""
    output = tmp_path_factory.mktemp("continued") / "run"
    words = ["train", "emoji_infonce_constant", "--init", str(finished_run.output), *QUIET]
    words += ["--data.limit", "64", "--optim.batch-size", "32", "--output", str(output)]
    assert main([*words, "--epochs", "1"]) == 0
    first = json.loads((output / "results.json").read_text())
    assert main([*words, "--epochs", "2"]) == 0
    return words, output, first


def test_results_say_what_a_training_began_with(continued, finished_run):
    _, _, first = continued
    parts = "image tower, tokenizer and text tower, image projection, text projection"
    assert first["protocol"]["init"].startswith(f"{parts} of run, step")


def test_a_finished_training_is_made_longer(continued, capsys):
    words, output, first = continued
    results = json.loads((output / "results.json").read_text())
    assert (first["total_steps"], results["total_steps"]) == (2, 4)
    assert "ended at step 2 (of 1 epochs)" in results["protocol"]["extended"]
    steps = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "loss" in line] == [1, 2, 4]
    assert load_result(output).total_steps == 4
    assert main([*words, "--epochs", "2"]) == 0
    assert main([*words, "--epochs", "1"]) == 1
    assert "optim.epochs: 1.0, was 2.0" in capsys.readouterr().err


def test_an_unfinished_training_is_not_made_longer(continued, tmp_path):
    _, output, _ = continued
    copy = shutil.copytree(output, tmp_path / "run")
    config = read_config(copy)
    state = max((copy / "checkpoints").glob("checkpoint-*")) / "trainer_state.json"
    state.write_text(state.read_text().replace('"max_steps": 4', '"max_steps": 8'))
    config.optim.epochs = 9
    with pytest.raises(ValueError, match=r"optim\.epochs: 9, was 2"):
        train(config)


def test_a_file_of_a_run_is_that_run(finished_run):
    config = read_config(finished_run.output / "config.yaml")
    assert config.output.resolve() == finished_run.output.resolve()
    assert config == read_config(finished_run.output)
    assert not config.overwrite


def test_a_file_of_ones_own_names_what_differs(tmp_path):
    file = tmp_path / "mine.yaml"
    tree = {"recipe": "emoji_infonce_mmts", "optim": {"epochs": 3}, "control": {"alpha": 0.02}}
    file.write_text(yaml.safe_dump(tree))
    config = read_config(file)
    assert (config.optim.epochs, config.control.alpha, config.control.kind) == (3, 0.02, "mmts")
    assert config.output.name == "mine"
    name, rest = config_file(["--config", str(file), "--optim.lr", "0.5"])
    assert (name, rest) == (str(file), ["--optim.lr", "0.5"])
    typed = parsed("x", "", config, ["--optim.lr", "0.5", "--family", "siglip"])
    assert (typed.optim.lr, typed.optim.epochs, typed.family) == (0.5, 3, "siglip")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {speed: 3}", "there is no setting 'optim.speed'"),
        ("optim: 3", "optim is 3, not a section"),
        ("recipe: nothing", "no recipe 'nothing'"),
        ("- 1", "has no sections of options"),
        ("optim: {lr: fast}", "optim.lr is 'fast'"),
        ("tauten_run: 2", "under another name"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, message, capsys):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    assert main(["train", "--config", str(file)]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert str(file) in said


def test_a_recipe_beside_a_file_is_refused(tmp_path, capsys):
    assert main(["train", "pairs", "--config", str(tmp_path / "no.yaml")]) == 1
    assert "leave pairs out" in capsys.readouterr().err
    assert main(["train", "--config", str(tmp_path / "no.yaml")]) == 1
    assert "no such file" in capsys.readouterr().err
