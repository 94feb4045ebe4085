"""A model whose files are damaged, or made to harm, ends in one line that names it."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from tauten.models import HFImageTower, HFTextTower, HFTokenizer
from tauten.models.hf_weights import load_model, read_config
from tauten.models.named import scale_and_bias
from tauten.models.pooling import pool
from tauten.models.sentence import sentence_settings

from .conftest import SMALL, word_tokenizer

WEIGHTS, SETTINGS = "model.safetensors", "tauten_tokenizer.json"


def refused(read, *args, match):
    with pytest.raises(ValueError, match=match) as caught:
        read(*args)
    assert "\n" not in str(caught.value)


@pytest.fixture
def vit(saved_as):
    return saved_as(ViTModel(ViTConfig(**SMALL, image_size=32, patch_size=16)), tokenizer=False)


@pytest.fixture
def bert(saved_as):
    return saved_as(BertModel(BertConfig(**SMALL, vocab_size=30, max_position_embeddings=16)))


class Attack:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return exec, (f"open({str(self.mark)!r}, 'w')",)


@pytest.mark.parametrize("file", ["pytorch_model.bin", WEIGHTS])
def test_weights_of_another_kind_run_nothing(vit, tmp_path, file):
    mark = tmp_path / "mark"
    (vit / WEIGHTS).unlink()
    for content in (pickle.dumps(Attack(mark)), b"\0" * 200, b""):
        (vit / file).write_bytes(content)
        refused(HFImageTower.from_pretrained, vit, match="no model could be read from .*model: ")
    torch.save({"weights": Attack(mark)}, vit / file)
    refused(HFImageTower.from_pretrained, vit, match="no model could be read from .*model: ")
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 200, pickle.dumps([1]), b"\x10" + b"\0" * 99])
def test_a_temperature_is_not_read_from_damaged_weights(vit, content):
    (vit / WEIGHTS).write_bytes(content)
    refused(scale_and_bias, vit, match=r"model\.safetensors is damaged: ")


@pytest.mark.parametrize("change", [{"hidden_size": "x"}, {"model_type": "no"}, {"model_type": 1}])
def test_configurations_of_other_values_are_refused(vit, change):
    config = json.loads((vit / "config.json").read_text())
    (vit / "config.json").write_text(json.dumps(config | change))
    refused(read_config, vit, match="no model could be read from .*model: ")


def test_weights_that_are_no_numbers_are_refused(vit):
    weights = load_file(vit / WEIGHTS)
    name = next(name for name in weights if name.endswith("query.weight"))
    weights[name][0, 0] = float("nan")
    save_file(weights, vit / WEIGHTS, metadata={"format": "pt"})
    refused(load_model, vit, match="1 of its weights hold NaN or inf, the first is .*layers?.0")


@pytest.mark.parametrize(
    "content",
    [
        {"image_mean": "imagenet", "image_std": [0.5] * 3},
        {"image_mean": [0.5] * 3, "rescale_factor": 0},
        {"image_mean": [None] * 3},
        [1],
        "{",
    ],
)
def test_statistics_of_another_kind_are_refused(vit, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (vit / "preprocessor_config.json").write_text(text)
    refused(HFImageTower.from_pretrained, vit, match="model: how its pictures were prepared")


MODULES = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
DENSE = [*MODULES, {"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]


@pytest.mark.parametrize("modules", [[], {}, "x", ["x"], [{"type": "Transformer"}], [{"path": 1}]])
def test_lists_of_modules_that_are_none_are_refused(tmp_path, modules):
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    refused(sentence_settings, tmp_path, match=r"modules\.json is damaged: it ")


def test_dense_layers_that_cannot_be_used_are_refused(bert):
    (bert / "modules.json").write_text(json.dumps(DENSE))
    dense = bert / "2_Dense"
    dense.mkdir()
    (dense / "config.json").write_text("{}")
    refused(HFTextTower.from_pretrained, bert, match="a Dense layer is damaged: it lacks in_feat")
    sizes = {"in_features": 16, "out_features": 4, "bias": False}
    (dense / "config.json").write_text(json.dumps(sizes))
    refused(HFTextTower.from_pretrained, bert, match="no weights of its Dense layer 2_Dense")
    (dense / "pytorch_model.bin").write_bytes(pickle.dumps({"linear.weight": print}))
    refused(HFTextTower.from_pretrained, bert, match=r"pytorch_model\.bin cannot be read: ")
    (dense / WEIGHTS).write_bytes(b"\0" * 99)
    refused(HFTextTower.from_pretrained, bert, match=r"model\.safetensors cannot be read: ")
    save_file({"linear.weight": torch.ones(3, 3)}, dense / WEIGHTS)
    refused(HFTextTower.from_pretrained, bert, match="a Dense layer: .*size mismatch")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", "not valid JSON"),
        ("[]", "holds no record"),
        ("{}", "lacks max_length"),
        ('{"max_length": "8"}', "max_length is str"),
        ('{"max_length": 8, "pad_to": "x"}', "pad_to is str"),
        ('{"max_length": 8, "colour": 1}', "of another version of tauten: it holds colour"),
        ('{"max_length": 0}', "max_length must be 1 token or more, got 0"),
    ],
)
def test_settings_of_a_tokenizer_that_are_damaged_are_refused(bert, content, match):
    (bert / SETTINGS).write_text(content)
    refused(HFTokenizer.load, bert, match=match)


@pytest.mark.parametrize("length", [0, -1, 2.5, True])
def test_lengths_that_hold_no_token_are_refused(bert, length):
    refused(HFTokenizer.load, bert, length, match="max_length must be 1 token or more, got")


def test_texts_without_a_token_have_an_embedding(tmp_path, bert):
    """No special tokens and nothing that is known: all is padding."""
    word_tokenizer(tmp_path / "bare", unk_token="<unk>", pad_token="<pad>")
    tokenizer = HFTokenizer.load(tmp_path / "bare")
    assert tokenizer([""])["input_ids"].tolist() == [[1]]
    assert tokenizer(["a red", ""])["attention_mask"].tolist() == [[1, 1], [0, 0]]
    for pooling in ("first", "last", "mean", "max", "weighted_mean", "mean_sqrt_len", "auto"):
        tower = HFTextTower.from_pretrained(bert, pooling).eval()
        for texts in ([""], ["a red", ""]):
            assert tower(**tokenizer(texts)).isfinite().all()
    with pytest.raises(ValueError, match="no texts"):
        tokenizer([])


def test_the_greatest_of_no_token_is_0():
    output = type("Output", (), {"last_hidden_state": -torch.ones(2, 2, 3)})()
    pooled = pool(output, torch.tensor([[1, 0], [0, 0]]), "max")
    assert pooled.tolist() == [[-1.0] * 3, [0.0] * 3]
