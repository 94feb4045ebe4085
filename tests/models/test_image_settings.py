"""Pixels are prepared as the model was trained, whatever layout says how."""

import json
import logging

import numpy as np
import pytest
import torch
from transformers import (
    EfficientNetConfig,
    EfficientNetModel,
    MobileViTConfig,
    MobileViTModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEModel,
    ViTModel,
)

from tauten.models import HFImageTower
from tauten.models.image_settings import ImageSettings, image_settings
from tauten.models.rebuild import check_rebuilds, check_repeats

from .conftest import SMALL

STATISTICS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}


def vit(**kwargs):
    return ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8), **kwargs)


def write(folder, file, content):
    (folder / file).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("preprocessor_config.json", STATISTICS),
        ("processor_config.json", {"processor_class": "X", "image_processor": STATISTICS}),
    ],
)
def test_statistics_of_each_layout_from_a_folder_and_by_name(saved_as, in_cache, file, content):
    folder = saved_as(vit(), tokenizer=False)
    write(folder, file, content)
    name, place = in_cache(folder)
    for tower in (
        HFImageTower.from_pretrained(folder),
        HFImageTower.from_pretrained(name, **place),
    ):
        assert tower.mean.flatten().tolist() == pytest.approx(STATISTICS["image_mean"])
        assert tower.std.flatten().tolist() == pytest.approx(STATISTICS["image_std"])


def test_the_nested_file_comes_first_as_in_transformers(saved_as):
    folder = saved_as(vit(), tokenizer=False)
    write(folder, "preprocessor_config.json", {"image_mean": [0.9] * 3, "image_std": [0.9] * 3})
    write(folder, "processor_config.json", {"image_processor": STATISTICS})
    assert image_settings(folder).mean == pytest.approx((0.1, 0.2, 0.3))


def test_absent_statistics_are_told_of(saved_as, caplog):
    folder = saved_as(vit(), tokenizer=False)
    with caplog.at_level(logging.WARNING, "tauten.models"):
        assert image_settings(folder) == ImageSettings()
    assert "has no preprocessor_config.json or processor_config.json" in caplog.text


@pytest.mark.parametrize(
    ("content", "size", "edge", "resample"),
    [
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "resample": 3,
          "crop_size": {"height": 224, "width": 224}}, 224, 256, "bicubic"),
        ({"size": 224, "do_center_crop": True, "crop_size": 224, "resample": 1}, 224, 224,
         "lanczos"),
        ({"size": {"height": 384, "width": 384}, "resample": 2}, 384, None, "bilinear"),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 2}, 224, 256, "bilinear"),
    ],
)  # fmt: skip
def test_size_crop_and_resampling(saved_as, content, size, edge, resample):
    folder = saved_as(vit(), tokenizer=False)
    write(folder, "preprocessor_config.json", content | STATISTICS)
    found = image_settings(folder)
    assert (found.size, found.edge, found.resample) == (size, edge, resample)


@pytest.mark.parametrize(
    "content",
    [
        STATISTICS,
        STATISTICS | {"rescale_factor": 1 / 127.5, "rescale_offset": True},
        STATISTICS | {"rescale_factor": 1 / 127.5, "rescale_offset": True, "include_top": False},
        STATISTICS | {"do_rescale": False},
        STATISTICS | {"do_normalize": False},
    ],
)
def test_pixels_are_those_of_the_processor(saved_as, content):
    from transformers.models.efficientnet.image_processing_pil_efficientnet import (
        EfficientNetImageProcessorPil,
    )

    folder = saved_as(vit(), tokenizer=False)
    processor = EfficientNetImageProcessorPil(do_resize=False, do_center_crop=False, **content)
    write(
        folder,
        "preprocessor_config.json",
        json.loads(processor.to_json_string())
        | {"image_processor_type": "EfficientNetImageProcessor"},
    )
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    told = processor(picture, return_tensors="pt")["pixel_values"].float()
    settings = image_settings(folder)
    tower = HFImageTower(vit(), "auto", settings.mean, settings.std)
    ours = tower.inputs(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    torch.testing.assert_close(ours["pixel_values"], told, atol=1e-3, rtol=1e-4)


def test_channels_in_another_order(saved_as):
    folder = saved_as(vit(), tokenizer=False)
    write(folder, "preprocessor_config.json", {"do_flip_channel_order": True})
    tower = HFImageTower.from_pretrained(folder)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(tower.inputs(images)["pixel_values"], images[:, [2, 1, 0]])
    assert HFImageTower.from_description(
        **{name: value for name, value in tower.describe().items() if name != "kind"}
    ).bgr


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_stored_in_half_precision_are_float32(saved_as, dtype):
    folder = saved_as(vit().to(dtype), tokenizer=False)
    tower = HFImageTower.from_pretrained(folder)
    assert {value.dtype for value in tower.parameters()} == {torch.float32}
    assert tower(torch.rand(2, 3, 32, 32)).dtype == torch.float32


def test_a_pooler_without_weights_is_not_used(saved_as, caplog):
    folder = saved_as(vit(add_pooling_layer=False), tokenizer=False)
    with caplog.at_level(logging.WARNING, "tauten.models"):
        tower = HFImageTower.from_pretrained(folder).eval()
    assert "no weights of its pooler" in caplog.text
    images = torch.rand(2, 3, 32, 32)
    told = tower.model(**tower.inputs(images)).last_hidden_state[:, 0]
    assert torch.equal(tower(images), told)


def efficientnet():
    return EfficientNetModel(EfficientNetConfig(
        width_coefficient=0.1, depth_coefficient=0.1, hidden_dim=128, in_channels=[8, 8],
        out_channels=[8, 8], kernel_sizes=[3, 3], strides=[1, 2], num_block_repeats=[1, 1],
        expand_ratios=[1, 2], depthwise_padding=[], image_size=64,
    ))  # fmt: skip


def mobilevit():
    return MobileViTModel(MobileViTConfig(
        hidden_sizes=[8, 8, 8], neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 24], num_attention_heads=2,
        image_size=64,
    ))  # fmt: skip


def mae():
    return ViTMAEModel(ViTMAEConfig(**SMALL, image_size=64, patch_size=16))


@pytest.mark.parametrize("build", [efficientnet, mobilevit, mae])
def test_unusual_models_have_a_width_and_embed_alike_each_time(build):
    tower = HFImageTower(build()).eval()
    images = torch.rand(2, 3, 64, 64)
    assert tower(images).shape == (2, tower.width)
    assert torch.equal(tower(images), tower(images))
    check_rebuilds(tower)


def test_a_masked_autoencoder_sees_the_whole_picture():
    model = mae().eval()
    tower = HFImageTower(model).eval()
    images = torch.rand(2, 3, 64, 64)
    hidden = model.embeddings.patch_embeddings((images - 0.5) / 0.5)
    tokens = model.embeddings.position_embeddings
    whole = torch.cat([
        (model.embeddings.cls_token + tokens[:, :1]).expand(2, -1, -1), hidden + tokens[:, 1:]
    ], 1)  # fmt: skip
    assert whole.shape[1] == 17
    told = model(pixel_values=(images - 0.5) / 0.5, noise=torch.arange(16).expand(2, -1))
    assert told.last_hidden_state.shape == whole.shape
    torch.testing.assert_close(tower(images), told.last_hidden_state.mean(1))


def test_a_tower_that_draws_at_random_is_refused():
    tower = HFImageTower(vit())
    with pytest.raises(ValueError, match="ViTModel draws at random when it is evaluated"):
        check_repeats(tower, torch.zeros(2, 3), torch.ones(2, 3))
    check_repeats(tower, torch.ones(2, 3), torch.ones(2, 3))


def test_a_tower_that_cannot_be_built_again_is_refused(monkeypatch):
    tower = HFImageTower(vit())
    description = tower.describe()
    monkeypatch.setattr(tower, "describe", lambda: description | {"pooling": object()})
    with pytest.raises(ValueError, match="ViTModel cannot be built again from a checkpoint"):
        check_rebuilds(tower)
    other = HFImageTower(ViTModel(ViTConfig(**(SMALL | {"num_hidden_layers": 2})))).describe()
    monkeypatch.setattr(tower, "describe", lambda: other)
    with pytest.raises(ValueError, match="built with other weights"):
        check_rebuilds(tower)


def test_a_size_that_the_model_does_not_take_names_the_option():
    with pytest.raises(ValueError, match=r"64x64 pixels \(data.image_size; it was made for 32\)"):
        HFImageTower(vit())(torch.rand(1, 3, 64, 64))


def test_no_model_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "siglip_text_model"}')
    with pytest.raises(ValueError, match="no model could be read") as caught:
        HFImageTower.from_pretrained(tmp_path)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)
