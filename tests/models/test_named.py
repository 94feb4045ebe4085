"""Published models by name, and trainings that start from them."""

import logging
import math

import pytest
import torch

from tauten.models import DualEncoder
from tauten.models.named import full_name, joint_name, scale_and_bias, tower_name
from tauten.training import Config, OptimConfig, from_model, specs
from tauten.training.options.pretrained import as_pretrained
from tauten.training.options.words import parsed

from .conftest import clip, siglip


def test_names_without_an_owner_are_those_of_the_publisher():
    assert full_name("clip", "vit-base-patch32") == "openai/clip-vit-base-patch32"
    assert full_name("siglip", "siglip-base-patch16-224") == "google/siglip-base-patch16-224"
    assert tower_name("st:all-MiniLM-L6-v2", "model.text") == (
        "sentence-transformers/all-MiniLM-L6-v2"
    )
    assert tower_name("st:minilm", "model.text") == "minilm"
    assert tower_name("hf:org/name", "model.image") == "org/name"
    assert tower_name("convolutional", "model.image") == "convolutional"


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("st:minilm", "model.image", "model.image=st:minilm embeds texts alone"),
        ("clip:", "model.text", "model.text=clip: names no model"),
        ("open_clip:", "model.image", "model.image=open_clip: names no model"),
    ],
)
def test_a_kind_without_such_a_tower_is_refused(name, option, message):
    with pytest.raises(ValueError, match=message):
        tower_name(name, option)


def test_a_model_of_another_kind_is_refused(saved_as):
    folder = saved_as(siglip())
    with pytest.raises(ValueError, match=r"is a siglip, not a clip: give hf:"):
        tower_name(f"clip:{folder}", "model.image")
    with pytest.raises(ValueError, match="embeds texts alone"):
        joint_name("st:minilm")


def test_temperature_and_bias_are_those_of_the_model(saved_as):
    model = siglip()
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
        model.logit_bias.fill_(-7.5)
    tau, bias = scale_and_bias(saved_as(model))
    assert tau == pytest.approx(math.exp(-3.0))
    assert bias == -7.5
    folder = saved_as(clip(), "clip")
    tau, bias = scale_and_bias(folder)
    assert tau == pytest.approx(math.exp(-2.6592), rel=1e-5)
    assert bias is None
    torch.save(clip().state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert scale_and_bias(folder)[0] == pytest.approx(tau)


def test_training_starts_from_all_that_the_model_has(saved_as):
    folder = saved_as(clip())
    config = parsed("x", "", Config(), ["--control.kind", "learnable", "--model", f"clip:{folder}"])
    config = as_pretrained(config)
    assert config.model.image == config.model.text == str(folder)
    assert (config.model.dim, config.data.image_size) == (12, 32)
    assert config.control.value == pytest.approx(math.exp(-2.6592), rel=1e-5)
    assert DualEncoder.from_pretrained(folder, folder).dim == config.model.dim


def test_a_learned_bias_starts_at_that_of_the_model(saved_as, caplog):
    model = siglip()
    model.logit_bias.data.fill_(-3.0)
    folder = saved_as(model)
    words = ["--family", "siglip", "--control.kind", "learnable", "--model", str(folder)]
    assert parsed("x", "", Config(), words).loss.bias == -3.0
    assert parsed("x", "", Config(), [*words, "--loss.bias", "-9"]).loss.bias == -9.0
    with caplog.at_level(logging.WARNING):
        changed = from_model(Config(optim=OptimConfig(epochs=3)), f"siglip:{folder}")
    assert changed.optim.epochs == 3
    assert "was trained with family=siglip, this is infonce" in caplog.text
    assert changed.control == specs.control()


def test_a_temperature_at_the_bound_widens_it(saved_as):
    model = clip()
    model.logit_scale.data.fill_(math.log(200))
    config = from_model(Config(control=specs.control("learnable")), str(saved_as(model)))
    assert config.control.low == config.control.value == pytest.approx(1 / 200)
    assert config.control.high == 1.0
