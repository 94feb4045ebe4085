"""What is written for other libraries embeds as the trained model does."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, BertConfig, ViTConfig

import tauten as tt
from tauten.cli import main
from tauten.inference import Model, export
from tauten.inference.runs import of_dual
from tauten.models import DualEncoder, HFImageTower, HFTextTower, HFTokenizer

from ..models.conftest import SMALL, word_tokenizer

TEXTS = ["a red cat", "cat", "a mat on a mat"]
CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture
def make(tmp_path):
    """A dual encoder of two tiny Hugging Face towers, as loaded."""

    def build(pooling="mean", dense=()):
        vision = HFImageTower.from_config(ViTConfig(**SMALL, image_size=32, patch_size=8))
        config = BertConfig(**SMALL, vocab_size=30, max_position_embeddings=8)
        text = HFTextTower.from_config(config, pooling=pooling, dense=dense)
        special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
        folder = word_tokenizer(tmp_path / "words", **special)
        encoder = DualEncoder(vision, text, dim=6)
        size = (32, 32)
        return Model("mine", of_dual(encoder, HFTokenizer.load(folder, 8), size, ""))

    return build


@pytest.mark.parametrize("pooling", ["mean", "first", "max", "pooler", "weighted_mean"])
def test_texts_for_sentence_transformers(make, tmp_path, pooling):
    library = pytest.importorskip("sentence_transformers")
    layer = {"inputs": 16, "outputs": 10, "bias": True, "activation": "ReLU"}
    model = make(pooling, [layer] if pooling == "mean" else [])
    folder = export(model, tmp_path / "out")
    found = library.SentenceTransformer(str(folder)).encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(found.cpu(), model.encode_text(TEXTS), **CLOSE)


def test_both_sides_for_transformers(make, tmp_path):
    model = make("auto")
    folder = export(model, tmp_path / "out", "transformers")
    whole = AutoModel.from_pretrained(folder).eval()
    pictures = [
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 56, 3), np.uint8))
        for i in range(2)
    ]
    pixels = AutoImageProcessor.from_pretrained(folder, use_fast=False)(
        pictures, return_tensors="pt"
    )
    texts = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        x = whole.get_image_features(**pixels)
        y = whole.get_text_features(texts["input_ids"], texts["attention_mask"])
    sides = ((x, model.encode_image(pictures), 2e-3), (y, model.encode_text(TEXTS), 1e-5))
    for told, wanted, atol in sides:
        rows = F.normalize(getattr(told, "pooler_output", told), dim=1)
        torch.testing.assert_close(rows, wanted, atol=atol, rtol=0)
    again = tt.load(folder)
    torch.testing.assert_close(again.encode_image(pictures), model.encode_image(pictures), **CLOSE)


def test_what_another_library_cannot_express(make, run, tmp_path, capsys):
    cases = {
        "its text tower is BagTower, not a Hugging Face model; train with model.text": (run, {}),
        "what it loads embeds otherwise": (make("mean"), {"to": "transformers"}),
        "to is sentence-transformers or transformers, got 'onnx'": (run, {"to": "onnx"}),
    }
    for message, (model, options) in cases.items():
        with pytest.raises(ValueError, match=message):
            export(model, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("keep")
    assert main(["export", str(run), "--output", str(tmp_path / "full")]) == 1
    assert "is not an empty folder: choose another output" in capsys.readouterr().err
