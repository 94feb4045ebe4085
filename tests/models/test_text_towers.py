"""Text models pool, pad and cut as they were trained, whoever saved them."""

import json
import logging

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as parts
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    Qwen3Config,
    Qwen3Model,
    SiglipConfig,
    T5Config,
    T5Model,
)

from tauten.models import HFTextTower, HFTokenizer, load_tokenizer
from tauten.models.rebuild import check_rebuilds
from tauten.models.sentence import sentence_settings

from .conftest import SMALL, TEXT, siglip, word_tokenizer

TEXTS = ["a red cat", "a red cat on a mat"]
MODES = {
    "cls": "first",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
}
OLD = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "weightedmean":
       "weightedmean_tokens"}  # fmt: skip


def bert(**kwargs):
    return BertModel(BertConfig(**SMALL, vocab_size=30, max_position_embeddings=16), **kwargs)


def directions(vectors):
    return nn.functional.normalize(torch.as_tensor(vectors), dim=1)


def sentence_encoder(folder, mode="mean", dense=None, normalize=True):
    """Saves the text model in this folder anew, as sentence-transformers does."""
    transformer = parts.Transformer(str(folder), max_seq_length=16)
    modules = [transformer, parts.Pooling(16, mode)]
    modules += [] if dense is None else [dense]
    modules += [parts.Normalize()] if normalize else []
    encoder = SentenceTransformer(modules=modules, device="cpu")
    place = folder.parent / "sentence"
    encoder.save_pretrained(str(place))
    return encoder, place


@pytest.mark.parametrize("mode", list(MODES))
@pytest.mark.parametrize("layout", [5, 6])
def test_pooling_is_that_of_the_sentence_encoder(saved_as, mode, layout):
    encoder, folder = sentence_encoder(saved_as(bert()), mode)
    if layout == 5:
        names = {key: f"pooling_mode_{OLD.get(key, key)}" for key in MODES}
        switches = {name: key == mode for key, name in names.items()}
        old = {"word_embedding_dimension": 16, "include_prompt": True} | switches
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(old))
    tower = HFTextTower.from_pretrained(folder).eval()
    assert tower.pooling == MODES[mode]
    with torch.no_grad():
        ours = directions(tower(**HFTokenizer.load(folder)(TEXTS)))
    theirs = torch.from_numpy(encoder.encode(TEXTS))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_pooling_by_name_is_that_by_folder(saved_as, in_cache):
    _, folder = sentence_encoder(saved_as(bert()), "cls")
    name, place = in_cache(folder)
    assert HFTextTower.from_pretrained(name, **place).pooling == "first"


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Identity()])
def test_dense_layers_are_kept(saved_as, activation):
    dense = parts.Dense(16, 6, activation_function=activation)
    encoder, folder = sentence_encoder(saved_as(bert()), "mean", dense)
    tower = HFTextTower.from_pretrained(folder).eval()
    assert tower.width == 6
    texts = HFTokenizer.load(folder)(TEXTS)
    with torch.no_grad():
        ours = tower(**texts)
    theirs = torch.from_numpy(encoder.encode(TEXTS))
    torch.testing.assert_close(directions(ours), theirs, atol=1e-6, rtol=1e-5)
    check_rebuilds(tower)
    arguments = {name: value for name, value in tower.describe().items() if name != "kind"}
    again = HFTextTower.from_description(**arguments).eval()
    again.load_state_dict(tower.state_dict())
    assert torch.equal(again(**texts), tower(**texts))


def test_what_cannot_be_honoured_is_refused_by_name(saved_as):
    folder = saved_as(bert())
    _, place = sentence_encoder(folder, ("cls", "mean"))
    with pytest.raises(ValueError, match="pools its tokens by cls and mean"):
        HFTextTower.from_pretrained(place)
    assert HFTextTower.from_pretrained(place, "last").pooling == "last"
    modules = json.loads((place / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "9", "type": "x.y.LayerNorm"})
    (place / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match=r"Normalize at position 2|LayerNorm at position 3"):
        HFTextTower.from_pretrained(place, "last")
    (place / "modules.json").write_text(json.dumps([modules[0] | {"type": "a.StaticEmbedding"}]))
    with pytest.raises(ValueError, match="begins with the module StaticEmbedding"):
        HFTextTower.from_pretrained(place)


def test_a_transformer_in_a_folder_of_its_own(saved_as, tmp_path):
    model = bert()
    saved_as(model, "old/0_Transformer")
    old = tmp_path / "old"
    (old / "modules.json").write_text(json.dumps([
        {"idx": 0, "name": "0", "path": "0_Transformer",
         "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling",
         "type": "sentence_transformers.models.Pooling"},
    ]))  # fmt: skip
    (old / "1_Pooling").mkdir()
    (old / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    (old / "0_Transformer" / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    tower, tokenizer = HFTextTower.from_pretrained(old), HFTokenizer.load(old)
    assert tower.pooling == "max"
    for name, value in model.state_dict().items():
        assert torch.equal(tower.model.state_dict()[name], value)
    assert torch.equal(tokenizer(["A Red CAT"])["input_ids"], tokenizer(["a red cat"])["input_ids"])


def test_a_pooler_without_weights_is_not_used(saved_as, caplog):
    folder = saved_as(bert(add_pooling_layer=False))
    with caplog.at_level(logging.WARNING, "tauten.models"):
        assert HFTextTower.from_pretrained(folder).pooling == "mean"
    assert "no weights of its pooler" in caplog.text


def gpt2():
    return GPT2Model(GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=1, n_head=2))


def qwen3():
    return Qwen3Model(Qwen3Config(**SMALL, vocab_size=30, num_key_value_heads=2, head_dim=8))


@pytest.mark.parametrize("build", [gpt2, qwen3])
def test_a_decoder_gives_its_last_token_and_needs_no_padding_token(saved_as, build):
    model = build().eval()
    folder = saved_as(model, pad_token=None)
    tower, tokenizer = HFTextTower.from_pretrained(folder).eval(), HFTokenizer.load(folder)
    texts = tokenizer(TEXTS)
    assert texts["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    with torch.no_grad():
        ours = tower(**texts)
        for row, text in enumerate(TEXTS):
            alone = model(**tokenizer([text])).last_hidden_state[0, -1]
            torch.testing.assert_close(ours[row], alone, atol=1e-6, rtol=1e-5)
    check_rebuilds(tower)


def test_an_encoder_decoder_gives_its_encoder(saved_as):
    config = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    model = T5Model(config).eval()
    folder = saved_as(model)
    tower, texts = HFTextTower.from_pretrained(folder).eval(), HFTokenizer.load(folder)(TEXTS)
    with torch.no_grad():
        hidden = model.encoder(**texts).last_hidden_state
        told = torch.stack([hidden[0, :3].mean(0), hidden[1].mean(0)])
        torch.testing.assert_close(tower(**texts), told, atol=1e-6, rtol=1e-5)
    check_rebuilds(tower)


def test_siglip_texts_are_padded_to_its_length_and_its_tower_is_built_again():
    model = siglip().eval()
    tower = HFTextTower(model.text_model).eval()
    short, long = torch.tensor([[5, 6, 1]]), torch.tensor([[5, 6, 1, 1, 1, 1, 1, 1]])
    with torch.no_grad():
        told = model.get_text_features(long)
        for ids in (short, long):
            found = tower(ids, (ids > 1).long())
            torch.testing.assert_close(found, getattr(told, "pooler_output", told))
    check_rebuilds(tower)
    assert HFTextTower.from_config(SiglipConfig(text_config=TEXT)).width == 16


def test_tokenizers_without_a_mask_or_with_padding_on_the_left(saved_as):
    folder = saved_as(bert(), model_input_names=["input_ids"], padding_side="left")
    got = HFTokenizer.load(folder)(TEXTS)
    assert got["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert got["input_ids"][0].tolist() == [4, 5, 6, 1, 1, 1]


def test_settings_are_saved_with_the_tokenizer(saved_as, tmp_path):
    tokenizer = HFTokenizer.load(saved_as(siglip()))
    assert (tokenizer.pad_to, tokenizer.max_length) == (8, 8)
    copy = tmp_path / "copy"
    copy.mkdir()
    tokenizer.save(copy)
    loaded = load_tokenizer(copy)
    assert torch.equal(loaded(TEXTS)["input_ids"], tokenizer(TEXTS)["input_ids"])
    assert loaded(TEXTS)["input_ids"].shape == (2, 8)


def test_more_tokens_than_places_are_cut_and_told_of(saved_as, caplog):
    with caplog.at_level(logging.WARNING, "tauten.models"):
        assert HFTokenizer.load(saved_as(bert()), 64).max_length == 16
    assert "model.max_tokens=64" in caplog.text


def test_captions_are_cut_where_the_sentence_encoder_cuts_texts(saved_as, caplog):
    encoder, folder = sentence_encoder(saved_as(bert()))
    encoder.max_seq_length = 4
    encoder.save_pretrained(str(folder))
    with caplog.at_level(logging.WARNING, "tauten.models"):
        tokenizer = HFTokenizer.load(folder, 12)
    assert tokenizer.max_length == 4
    assert "model.max_tokens=12" in caplog.text
    assert "takes 4 tokens" in caplog.text
    tower = HFTextTower.from_pretrained(folder).eval()
    text = ["a red cat on a mat"]
    with torch.no_grad():
        ours = directions(tower(**tokenizer(text)))
    torch.testing.assert_close(ours, directions(encoder.encode(text)))
    caplog.clear()
    assert HFTokenizer.load(folder, 3).max_length == 3
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("encoder", "tokenizer", "expected"), [(5, None, 5), (None, 7, 7), (9, 7, 9), (40, None, 16)]
)
def test_the_length_of_an_encoder_goes_before_that_of_its_tokenizer(
    saved_as, encoder, tokenizer, expected
):
    _, folder = sentence_encoder(saved_as(bert()))
    for name, key, value in (
        ("sentence_bert_config.json", "max_seq_length", encoder),
        ("tokenizer_config.json", "model_max_length", tokenizer),
    ):
        path = folder / name
        saved = json.loads(path.read_text()) if path.exists() else {}
        saved.pop(key, None)
        path.write_text(json.dumps(saved if value is None else saved | {key: value}))
    assert HFTokenizer.load(folder, 20).max_length == expected


def test_a_folder_without_a_tokenizer_is_refused(saved_as):
    with pytest.raises(ValueError, match="model has no tokenizer: none of tokenizer.json"):
        HFTokenizer.load(saved_as(bert(), tokenizer=False))


def test_a_tokenizer_without_any_special_token_is_refused(tmp_path):
    word_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="has no token to pad with"):
        HFTokenizer.load(tmp_path)


@pytest.mark.parametrize(("default", "told"), [("query", True), (None, False), ("document", False)])
def test_a_prompt_of_the_encoder_is_told_of(tmp_path, caplog, default, told):
    modules = [{"type": "sentence_transformers.models.Transformer", "path": ""}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    saved = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": default}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(saved))
    sentence_settings(tmp_path)
    assert ("'query: ' before every text" in caplog.text) == told
