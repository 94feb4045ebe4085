import json
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    BertTokenizer,
    CLIPTextConfig,
    CLIPVisionConfig,
    DistilBertConfig,
    ResNetConfig,
    ViTConfig,
)

from tauten.models import DualEncoder, HFImageTower, HFTextTower, HFTokenizer, load_tokenizer, pool

VIT = ViTConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    image_size=32, patch_size=8,
)  # fmt: skip
RESNET = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
CLIP_VISION = CLIPVisionConfig(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
    image_size=32, patch_size=8,
)  # fmt: skip
BERT = BertConfig(
    vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=16,
)  # fmt: skip
DISTILBERT = DistilBertConfig(
    vocab_size=20, dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=16
)
CLIP_TEXT = CLIPTextConfig(
    vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=16, max_position_embeddings=16, eos_token_id=3, bos_token_id=2,
)  # fmt: skip


@pytest.fixture
def batch():
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    texts = {"input_ids": ids, "attention_mask": (ids != 0).long()}
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    return images, texts


@pytest.mark.parametrize("image", [VIT, RESNET, CLIP_VISION], ids=["vit", "resnet", "clip"])
@pytest.mark.parametrize("text", [BERT, DISTILBERT, CLIP_TEXT], ids=["bert", "distilbert", "clip"])
def test_any_two_towers_train_and_describe_themselves(image, text, batch):
    torch.manual_seed(0)
    encoder = DualEncoder(HFImageTower.from_config(image), HFTextTower.from_config(text), dim=8)
    x, y = encoder(*batch)
    assert x.shape == y.shape == (2, 8)
    (x * y).sum().backward()
    assert encoder.image_projection.weight.grad.abs().sum() > 0
    again = DualEncoder.from_description(json.loads(json.dumps(encoder.describe())))
    again.load_state_dict(encoder.state_dict())
    encoder.eval(), again.eval()
    for old, new in zip(encoder(*batch), again(*batch), strict=True):
        assert torch.equal(old, new)


def test_pretrained_weights_and_normalisation_from_folders(tmp_path, batch):
    torch.manual_seed(1)
    vision, language = AutoModel.from_config(VIT), AutoModel.from_config(DISTILBERT)
    vision.save_pretrained(tmp_path / "image")
    language.save_pretrained(tmp_path / "text")
    statistics = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "image" / "preprocessor_config.json").write_text(json.dumps(statistics))
    encoder = DualEncoder.from_pretrained(tmp_path / "image", tmp_path / "text", dim=8).eval()
    for ours, theirs in ((encoder.image_tower.model, vision), (encoder.text_tower.model, language)):
        for name, value in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], value)
    assert encoder.image_tower.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert encoder.image_tower.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_pooling():
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    mask = torch.tensor([[1, 1, 0]])
    bare = SimpleNamespace(last_hidden_state=hidden)
    both = SimpleNamespace(last_hidden_state=hidden, pooler_output=torch.tensor([[7.0, 8.0]]))
    assert pool(bare, mask).tolist() == [[2.0, 3.0]]
    assert pool(bare, mask, "first").tolist() == [[1.0, 2.0]]
    assert pool(both, mask).tolist() == [[7.0, 8.0]]
    assert pool(both, mask, "mean").tolist() == [[2.0, 3.0]]
    assert pool(SimpleNamespace(last_hidden_state=torch.ones(1, 2, 3, 3))).shape == (1, 2)
    assert pool(SimpleNamespace(last_hidden_state=hidden)).shape == (1, 2)


def test_pooling_errors():
    bare = SimpleNamespace(last_hidden_state=torch.ones(1, 2, 3, 3))
    with pytest.raises(ValueError, match="has no pooler_output"):
        pool(bare, None, "pooler")
    with pytest.raises(ValueError, match="has no first token"):
        pool(bare, None, "first")
    with pytest.raises(ValueError, match="cannot be a tower"):
        pool(SimpleNamespace())


def test_a_model_of_unknown_width_is_refused():
    model = torch.nn.Identity()
    model.config = SimpleNamespace()
    for tower in (HFImageTower, HFTextTower):
        with pytest.raises(ValueError, match="cannot tell the width"):
            tower(model)


def test_tokenizer_saved_and_loaded(tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "cat"]))
    tokenizer = HFTokenizer(BertTokenizer(str(vocabulary)), max_length=4)
    got = tokenizer(["red cat red cat", "cat"])
    assert got["input_ids"].shape == (2, 4)
    assert got["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    folder = tmp_path / "saved"
    folder.mkdir()
    tokenizer.save(folder)
    loaded = load_tokenizer(folder)
    assert torch.equal(loaded(["red cat"])["input_ids"], tokenizer(["red cat"])["input_ids"])
    assert (loaded.vocabulary_size, loaded.max_length) == (7, 4)


def test_minilm_is_the_sentence_encoder_that_its_package_carries():
    from tauten.structure import embed_captions

    captions = ["a red apple", "flag of Iceland on a pole"]
    tower, tokenizer = HFTextTower.from_pretrained("minilm").eval(), HFTokenizer.load("minilm")
    assert tower.pooling == "mean"
    with torch.no_grad():
        found = torch.nn.functional.normalize(tower(**tokenizer(captions)), dim=1)
    torch.testing.assert_close(found, embed_captions(captions, progress=False), atol=1e-5, rtol=0)


def _renamed(folder, rename):
    path = folder / "model.safetensors"
    kept = {rename(name): value for name, value in load_file(path).items()}
    kept.pop(None, None)
    save_file(kept, path, metadata={"format": "pt"})


@pytest.mark.parametrize(("config", "tower"), [(VIT, HFImageTower), (DISTILBERT, HFTextTower)])
def test_a_file_of_other_weights_is_refused(tmp_path, caplog, config, tower):
    AutoModel.from_config(config).save_pretrained(tmp_path)
    _renamed(tmp_path, lambda name: None if name.endswith(".bias") and "norm" in name else name)
    tower.from_pretrained(tmp_path)
    assert "has no weights for" in caplog.text
    _renamed(tmp_path, lambda name: f"other.{name}.x")
    with pytest.raises(ValueError, match=r"no weights for .* tensors .*other names"):
        tower.from_pretrained(tmp_path)


def test_a_whole_model_is_read_without_a_word(tmp_path, caplog):
    AutoModel.from_config(VIT).save_pretrained(tmp_path / "image")
    AutoModel.from_config(DISTILBERT).save_pretrained(tmp_path / "text")
    HFImageTower.from_pretrained(tmp_path / "image")
    HFTextTower.from_pretrained(tmp_path / "text")
    assert "no weights" not in caplog.text


@pytest.mark.parametrize(("mean", "std"), [([0.5] * 4, [0.5] * 4), ([0.5] * 3, [0.0, 0.5, 0.5])])
def test_statistics_that_no_picture_has_are_refused(tmp_path, mean, std):
    AutoModel.from_config(VIT).save_pretrained(tmp_path)
    settings = {"image_mean": mean, "image_std": std}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="image_mean and image_std .* three channels"):
        HFImageTower.from_pretrained(tmp_path)


def test_code_of_a_model_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *words: pytest.fail("asked at the terminal"))
    settings = {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "own.py").write_text("raise SystemExit")
    with pytest.raises(ValueError, match="no model could be read"):
        HFTextTower.from_pretrained(tmp_path)
