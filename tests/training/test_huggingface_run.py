"""The trainer with two Hugging Face towers and their tokenizer, from folders."""

import logging

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    CLIPConfig,
    SiglipConfig,
    ViTConfig,
)

from tauten.models import HFTextTower
from tauten.training import evaluate, train
from tauten.training.build import build_encoder
from tauten.training.config import ModelConfig
from tauten.training.results import load_encoder


@pytest.fixture
def towers(tmp_path):
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary += [*letters, *(f"##{letter}" for letter in letters)]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "text")
    small = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
    }
    text = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=16, **small)
    AutoModel.from_config(text).save_pretrained(tmp_path / "text")
    image = ViTConfig(image_size=32, patch_size=16, **small)
    AutoModel.from_config(image).save_pretrained(tmp_path / "image")
    return str(tmp_path / "image"), str(tmp_path / "text")


@pytest.mark.parametrize("random_weights", [False, True])
def test_trains_and_evaluates_from_its_checkpoint(tmp_path, make_config, towers, random_weights):
    config = make_config(tmp_path / "run", optim__epochs=1, model__max_tokens=16)
    config.model.image, config.model.text = towers
    config.model.random_weights = random_weights
    run = train(config)
    assert run.total_steps == 3
    assert evaluate(run.output, bootstrap=20) == run.test


@pytest.fixture(params=[CLIPConfig, SiglipConfig], ids=["clip", "siglip"])
def joint(request, tmp_path, towers):
    _, text = towers
    tokenizer = BertTokenizer.from_pretrained(text)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 8}  # fmt: skip
    ids = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "pad_token_id": 0,
           "bos_token_id": 2, "eos_token_id": 3}  # fmt: skip
    vision = small | {"image_size": 32, "patch_size": 16}
    model = AutoModel.from_config(request.param(text_config=small | ids, vision_config=vision))
    model.save_pretrained(tmp_path / "joint")
    tokenizer.save_pretrained(tmp_path / "joint")
    return model, str(tmp_path / "joint")


def test_one_model_on_both_sides_starts_in_its_own_space(tmp_path, make_config, joint, caplog):
    model, folder = joint
    config = make_config(tmp_path / "run", optim__epochs=1, optim__lr=1e-12, model__dim=5)
    config.model.image = config.model.text = folder
    config.optim.weight_decay, config.model.augment, config.model.max_tokens = 0.0, False, 16
    with caplog.at_level(logging.WARNING, "tauten.training"):
        run = train(config)
    assert "the width of the common space" in caplog.text
    assert evaluate(run.output, bootstrap=20) == run.test
    encoder, tokenizer, _ = load_encoder(run.output / "checkpoints" / "best")
    images, texts = torch.rand(2, 3, 32, 32), tokenizer(["a cat", "a red mat"])
    mask = {} if "Siglip" in type(model).__name__ else {"attention_mask": texts["attention_mask"]}
    with torch.no_grad():
        told = (
            model.eval().get_image_features((images - 0.5) / 0.5),
            model.get_text_features(texts["input_ids"], **mask),
        )
        ours = encoder.encode_image(images), encoder.encode_text(texts)
    for mine, theirs in zip(ours, told, strict=True):
        wanted = getattr(theirs, "pooler_output", theirs)
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=1e-4)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(towers):
    image, text = towers
    with pytest.raises(ValueError, match=r"has 1,000 tokens, the model 57"):
        build_encoder(ModelConfig(image=image, text=text), 1000)


def test_a_tower_that_cannot_be_built_again_is_refused_before_the_first_step(
    tmp_path, make_config, towers, monkeypatch
):
    config = make_config(tmp_path / "run", model__max_tokens=16)
    config.model.image, config.model.text = towers
    describe = HFTextTower.describe
    monkeypatch.setattr(HFTextTower, "describe", lambda self: describe(self) | {"colour": 1})
    with pytest.raises(ValueError, match="BertModel cannot be built again"):
        train(config)
    assert not (tmp_path / "run").exists()


def test_pixels_other_than_in_training_are_told_of(tmp_path, towers, caplog):
    image, text = towers
    (tmp_path / "image" / "preprocessor_config.json").write_text(
        '{"size": {"shortest_edge": 40}, "do_center_crop": true, "crop_size": 32}'
    )
    with caplog.at_level(logging.WARNING, "tauten.training"):
        build_encoder(ModelConfig(image=image, text=text), 57, image_size=32)
    assert "shorter side was 40 pixels, cut to 32x32" in caplog.text
