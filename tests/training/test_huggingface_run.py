"""The trainer with two Hugging Face towers and their tokenizer, from folders."""

import json
import logging
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    CLIPConfig,
    SiglipConfig,
    ViTConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tauten.data.sizes import Prepared, resized
from tauten.models import HFImageTower, HFTextTower, HFTokenizer
from tauten.training import evaluate, train
from tauten.training.encoders import build_encoder
from tauten.training.options.config import DataConfig, ModelConfig
from tauten.training.options.pretrained import as_pretrained, prepared, tell_of_pixels
from tauten.training.stores.splits import load_split
from tauten.training.tasks.loading import load_encoder
from tauten.training.tokenizer import check_texts


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


def test_a_tokenizer_that_does_not_know_the_words_is_refused(towers, caplog):
    tokenizer = HFTokenizer.load(towers[1], 16)
    foreign = [[f"кот {'сидит ' * (i % 3)}{chr(0x430 + i)}"] for i in range(32)]
    with pytest.raises(ValueError, match="32 different captions are 3 different rows of tokens"):
        check_texts(tokenizer, foreign, "it")
    known = [[f"cat {chr(97 + i)}"] for i in range(16)]
    with caplog.at_level(logging.WARNING, "tauten.training"):
        check_texts(tokenizer, known, "it")
        check_texts(tokenizer, [["a cat"]] * 20, "it")
        assert not caplog.records
        check_texts(tokenizer, known[:6] + foreign[::3], "it")
    assert "17 different captions are 7 different rows of tokens; 'кот а'" in caplog.text


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


CUT = {"size": {"shortest_edge": 40}, "do_center_crop": True, "resample": 2,
       "crop_size": {"height": 32, "width": 32}}  # fmt: skip


def test_pixels_other_than_in_training_are_told_of(tmp_path, towers, caplog):
    (tmp_path / "image" / "preprocessor_config.json").write_text(json.dumps(CUT))
    tower = HFImageTower.from_pretrained(towers[0])
    with caplog.at_level(logging.WARNING, "tauten.training"):
        tell_of_pixels(tower, "it", DataConfig(image_size=32, edge=40))
        assert not caplog.records
        tell_of_pixels(tower, "it", DataConfig(image_size=32))
    assert "the middle 32x32 pixels of pictures with a shorter side of 40; here" in caplog.text


def test_size_0_is_size_crop_and_filter_of_the_model(tmp_path, make_config, towers):
    (tmp_path / "image" / "preprocessor_config.json").write_text(json.dumps(CUT))
    config = make_config(tmp_path / "run", data__image_size=0)
    config.model.image, config.model.text = towers
    config = as_pretrained(config)
    assert (config.data.image_size, config.data.edge, config.data.resample) == (32, 40, "bilinear")
    processor = CLIPImageProcessorPil(do_normalize=False, do_rescale=False, **CUT)
    for width, height in ((50, 90), (133, 71), (32, 32)):
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        told = processor(pixels, return_tensors="pt")["pixel_values"][0]
        ours = np.asarray(resized(Image.fromarray(pixels), prepared(config.data)))
        assert np.abs(ours.transpose(2, 0, 1) - told.numpy().astype(float)).max() <= 1
    assert load_split(config.data, "val").images.shape[1:] == (3, 32, 32)
    config.model.image, config.data.image_size = "convolutional", 0
    with pytest.raises(ValueError, match="data.image_size=0 .* convolutional says none"):
        as_pretrained(config)


def test_how_pictures_are_prepared_survives_a_pickle():
    size = pickle.loads(pickle.dumps(Prepared(8, 9, "box")))
    assert (tuple(size), size.edge, size.resample) == ((8, 8), 9, "box")
    with pytest.raises(ValueError, match="no square of 8 pixels"):
        Prepared(8, 7)
