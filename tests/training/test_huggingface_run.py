"""The trainer with two Hugging Face towers and their tokenizer, from folders."""

import pytest
from transformers import AutoModel, BertConfig, BertTokenizer, ViTConfig

from tauten.training import evaluate, train


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
