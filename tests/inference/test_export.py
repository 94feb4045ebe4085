"""What is written for other libraries embeds as the trained model does."""

import json
from pathlib import Path
from typing import ClassVar

import huggingface_hub
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
from tauten.training import train

from ..models.conftest import SMALL, word_tokenizer
from ..training.conftest import tiny

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


@pytest.fixture(scope="module")
def graphs(run, tmp_path_factory):
    return tt.load(run).export(tmp_path_factory.mktemp("graphs") / "out", to="torch-export")


def test_a_graph_embeds_without_tauten(graphs, run):
    model = tt.load(run)
    image = torch.export.load(graphs / "image.pt2").module()
    text = torch.export.load(graphs / "text.pt2").module()
    pixels = torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8)
    torch.testing.assert_close(image(pixels / 255), model.encode_image(pixels), **CLOSE)
    ids = model.towers.tokenizer(["a red heart", "a cat", "two cats in a row", "flag"])
    told = text(ids["input_ids"], ids["attention_mask"])
    wanted = F.normalize(model.towers.module.encode_text(ids), dim=1)
    torch.testing.assert_close(told, wanted, **CLOSE)
    settings = json.loads((graphs / "tauten.json").read_text())
    assert settings["dim"] == 8
    assert settings["pictures"]["size"] == [32, 32]


def test_the_card_has_numbers_and_protocol_of_the_run(graphs, run):
    card = (graphs / "README.md").read_text()
    results = json.loads((run / "results.json").read_text())
    test = results["test"]
    low, high = (100 * test[f"x2y/hit@1/{end}"] for end in ("low", "high"))
    assert f"| x2y/hit@1 | {100 * test['x2y/hit@1']:.1f} [{low:.1f}, {high:.1f}]" in card
    for text in results["protocol"].values():
        assert text in card
    assert results["control"] in card
    assert 'torch.export.load("out/image.pt2")' in card


def test_onnx_embeds_as_the_model(make, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = make("mean")
    folder = export(model, tmp_path / "out", "onnx")
    pixels = torch.rand(3, 3, 32, 32)
    session = runtime.InferenceSession(str(folder / "image.onnx"))
    (found,) = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
    with torch.no_grad():
        wanted = F.normalize(model.towers.module.encode_image(pixels), dim=1)
    torch.testing.assert_close(torch.from_numpy(found), wanted, **CLOSE)
    assert "No numbers are known here" in (folder / "README.md").read_text()


def test_onnx_names_its_extra_before_the_work(make, tmp_path, monkeypatch):
    from tauten import extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install onnx onnxruntime onnxscript"):
        export(make("mean"), tmp_path / "out", "onnx")
    assert not (tmp_path / "out").exists()


class Hub:
    """A hub that keeps what is sent to it."""

    sent: ClassVar[list] = []

    def whoami(self):
        return {"name": "me"}

    def create_repo(self, name, **options):
        self.sent.append((name, options))

    def upload_folder(self, folder_path, repo_id):
        self.sent.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))


def test_push_uploads_the_folder_with_its_card(make, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "sent", [])
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    export(make("mean"), tmp_path / "out", push="me/birds")
    (made, options), (name, files) = Hub.sent
    assert (made, name) == ("me/birds", "me/birds")
    assert options == {"private": True, "exist_ok": True}
    assert {"README.md", "model.safetensors", "modules.json"} <= set(files)


def test_a_hub_that_cannot_be_written_to_is_told_before_the_work(make, tmp_path, monkeypatch):
    def whoami(self):
        raise OSError("401: token is invalid")

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(Hub, "whoami", whoami)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(ValueError, match="log in with 'hf auth login': 401: token is invalid"):
        export(make("mean"), tmp_path / "out", push="me/birds")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set"):
        export(make("mean"), tmp_path / "out", push="me/birds")
    assert not (tmp_path / "out").exists()


def test_what_another_library_cannot_express(make, run, tmp_path, capsys):
    cases = {
        "its text tower is BagTower, not a Hugging Face model; train with model.text": (run, {}),
        "what it loads embeds otherwise": (make("mean"), {"to": "transformers"}),
        "to is one of sentence-transformers, .*, onnx, got 'gguf'": (run, {"to": "gguf"}),
        "'mine' is no name on the hub": (run, {"push": "mine"}),
    }
    for message, (model, options) in cases.items():
        with pytest.raises(ValueError, match=message):
            export(model, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()
    assert main(["export", str(run), "--output", str(tmp_path / "out")]) == 1
    assert "train with --model.text, such as minilm" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("keep")
    assert main(["export", str(run), "--output", str(tmp_path / "full")]) == 1
    assert "is not an empty folder: choose another output" in capsys.readouterr().err


def test_a_run_of_two_views_becomes_a_graph_of_its_features(tmp_path):
    fields = {"data__image_size": 16, "optim__epochs": 1, "evaluation__metric": "knn@10"}
    train(tiny(tmp_path / "run", task="views", **fields))
    model = tt.load(tmp_path / "run")
    folder = model.export(tmp_path / "out", to="torch-export")
    pixels = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8)
    with torch.no_grad():
        wanted = F.normalize(model.towers.module.tower(pixels / 255), dim=1)
    found = torch.export.load(folder / "image.pt2").module()(pixels / 255)
    torch.testing.assert_close(found, wanted, **CLOSE)
    assert json.loads((folder / "tauten.json").read_text())["pictures"]["size"] == [16, 16]
    assert not (folder / "text.pt2").exists()


def test_open_clip_names_the_formats_that_take_the_towers_instead(make, tmp_path):
    wanted = {"auto": {"transformers", "torch-export", "onnx"}, "mean": {"torch-export", "onnx"}}
    for pooling, both in wanted.items():
        with pytest.raises(ValueError, match="exported to open_clip") as raised:
            export(make(pooling), tmp_path / "no", "open_clip")
        words = str(raised.value).split()
        named = [word.removeprefix("to=").strip(",") for word in words if word.startswith("to=")]
        assert named == [*sorted(both, reverse=True), "sentence-transformers"]
        for to in {*named} - {"onnx"}:
            assert export(make(pooling), tmp_path / pooling / to, to).is_dir()
