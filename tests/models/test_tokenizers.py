import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tauten.models import BagTokenizer, load_tokenizer
from tauten.models.tokenizers import ngrams, words


def test_words_and_ngrams():
    assert words("Flag: Côte d’Ivoire!") == ["flag", ":", "côte", "d", "’", "ivoire", "!"]
    assert ngrams("a cat", 3, 3) == ["<a>", "<cat>", "<ca", "cat", "at>"]


def test_vocabulary_is_by_frequency_then_alphabet():
    tokenizer = BagTokenizer.fit(["red dog", "red cat", "blue cat red"], max_size=3)
    assert tokenizer.vocabulary == ["red", "cat", "blue"]


def test_unknown_words_are_dropped_and_an_unknown_text_has_an_id():
    tokenizer = BagTokenizer(["cat", "dog"])
    got = tokenizer(["cat whale dog", "whale"])
    assert got["input_ids"].tolist() == [[2, 3], [1, 0]]
    assert got["attention_mask"].tolist() == [[1, 1], [1, 0]]


def test_ngrams_know_parts_of_new_words():
    tokenizer = BagTokenizer.fit(["smiling cat"], "ngrams")
    assert len(tokenizer.encode("cats")) > 1


def test_texts_are_cut():
    tokenizer = BagTokenizer(["a", "b"], max_length=3)
    assert tokenizer(["a b a b a"])["input_ids"].shape == (1, 3)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_any_text_gives_ids_in_range(texts):
    tokenizer = BagTokenizer.fit(["the cat sat", *texts], "ngrams")
    ids = tokenizer(texts)["input_ids"]
    assert ids.min() >= 0
    assert ids.max() < tokenizer.vocabulary_size
    assert torch.all(ids[:, 0] > 0)


@pytest.mark.parametrize("level", ["words", "ngrams"])
def test_saved_and_loaded(tmp_path, level):
    tokenizer = BagTokenizer.fit(["a small cat", "Ünïcode ☂"], level, max_length=9)
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    texts = ["a cat ☂", "small Ünïcode cats"]
    assert torch.equal(loaded(texts)["input_ids"], tokenizer(texts)["input_ids"])
    assert json.loads((tmp_path / "tokenizer.json").read_text())["level"] == level


def test_errors(tmp_path):
    with pytest.raises(ValueError, match='level must be "words" or "ngrams"'):
        BagTokenizer(["a"], "bytes")
    with pytest.raises(ValueError, match="token twice"):
        BagTokenizer(["a", "a"])
    with pytest.raises(ValueError, match="at least 1 token, got 0"):
        BagTokenizer(["a"], max_length=0)
    with pytest.raises(ValueError, match="at least one caption"):
        BagTokenizer.fit(["", " "])
    with pytest.raises(ValueError, match="no tokenizer could be read"):
        load_tokenizer(tmp_path)
