"""One model on both sides keeps its common space."""

import json
import logging

import pytest
import torch
from transformers import BertConfig, BertModel, VisionTextDualEncoderModel, ViTConfig, ViTModel

from tauten.models import DualEncoder, HFTokenizer
from tauten.models.joint import joint_width

from .conftest import SMALL, TEXT, clip, siglip, siglip2


def vit_bert():
    vision = ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=8))
    text = BertModel(BertConfig(**SMALL, vocab_size=30, max_position_embeddings=8))
    return VisionTextDualEncoderModel(vision_model=vision, text_model=text)


def features(told):
    return getattr(told, "pooler_output", told)


def patches(pixels, side):
    """(N, 3, H, W) to (N, L, side·side·3), patch by patch."""
    height, width = pixels.shape[2:]
    rows = [
        pixels[:, :, y : y + side, x : x + side].permute(0, 2, 3, 1).flatten(1)
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    return torch.stack(rows, 1)


@pytest.mark.parametrize("build", [clip, siglip, siglip2, vit_bert])
def test_embeddings_are_those_of_the_model(saved_as, build):
    model = build().eval()
    folder = saved_as(model)
    encoder = DualEncoder.from_pretrained(folder, folder).eval()
    assert encoder.dim == joint_width(model.config)
    images = torch.rand(3, 3, 32, 32)
    texts = HFTokenizer.load(folder)(["a red cat </s>", "cat </s>"])
    pixels = (images - 0.5) / 0.5
    with torch.no_grad():
        x, y = encoder.encode_image(images), encoder.encode_text(texts)
        if build is siglip2:
            told = model.get_image_features(
                patches(pixels, 8), torch.ones(3, 16), torch.tensor([[4, 4]] * 3)
            )
        else:
            told = model.get_image_features(pixels)
        mask = {} if build in (siglip, siglip2) else {"attention_mask": texts["attention_mask"]}
        said = model.get_text_features(texts["input_ids"], **mask)
    torch.testing.assert_close(x, features(told), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(y, features(said), atol=1e-6, rtol=1e-5)
    again = DualEncoder.from_description(json.loads(json.dumps(encoder.describe()))).eval()
    again.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.encode_image(images), x)
        torch.testing.assert_close(again.encode_text(texts), y)


def test_another_width_starts_at_random_and_says_so(saved_as, caplog):
    folder = saved_as(clip())
    with caplog.at_level(logging.WARNING, "tauten.models"):
        encoder = DualEncoder.from_pretrained(folder, folder, dim=5)
    assert encoder.dim == 5
    assert "its width is 12, not 5" in caplog.text


def test_a_space_that_is_no_linear_map_is_told_of(saved_as, caplog):
    class Bent(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x).tanh()

    from tauten.models import HFImageTower, HFTextTower
    from tauten.models.joint import joint_projections

    model = clip()
    model.visual_projection = Bent(16, 12, bias=False)
    towers = HFImageTower(model.vision_model), HFTextTower(model.text_model)
    with pytest.raises(ValueError, match="not a linear map"):
        joint_projections(model, *towers, "bent")


def test_a_text_does_not_depend_on_its_batch(saved_as):
    for build in (clip, siglip, siglip2):
        folder = saved_as(build(), build.__name__)
        encoder, tokenizer = (
            DualEncoder.from_pretrained(folder, folder).eval(),
            HFTokenizer.load(folder),
        )
        with torch.no_grad():
            alone = encoder.encode_text(tokenizer(["a cat </s>"]))
            beside = encoder.encode_text(tokenizer(["a cat </s>", "a red cat on a mat </s>"]))
        torch.testing.assert_close(alone[0], beside[0], atol=1e-6, rtol=1e-5)
    assert tokenizer(["a cat"])["input_ids"].shape == (1, TEXT["max_position_embeddings"])
