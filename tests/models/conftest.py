"""Tiny Hugging Face models of every kind, built from configurations and saved in their layouts."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

SMALL = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2
}  # fmt: skip
TEXT = SMALL | {
    "vocab_size": 30, "max_position_embeddings": 8, "pad_token_id": 1, "bos_token_id": 2,
    "eos_token_id": 3,
}  # fmt: skip


def word_tokenizer(folder: Path, names: str = "<unk> <pad> <s> </s> a red cat on mat", **kwargs):
    """A tokenizer of whole words, without the special tokens that are not named."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {name: number for number, name in enumerate(names.split())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=names.split()[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **kwargs).save_pretrained(folder)
    return folder


def clip():
    vision = SMALL | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=12)
    return CLIPModel(config)


def siglip():
    vision = SMALL | {"image_size": 32, "patch_size": 8}
    return SiglipModel(SiglipConfig(text_config=TEXT, vision_config=vision))


def siglip2():
    vision = SMALL | {"num_patches": 16, "patch_size": 8}
    return Siglip2Model(Siglip2Config(text_config=TEXT, vision_config=vision))


@pytest.fixture
def saved_as(tmp_path):
    """Saves a model, by default with a word tokenizer; returns its folder."""

    def save(model, name="model", tokenizer=True, **kwargs):
        folder = tmp_path / name
        model.save_pretrained(folder)
        if tokenizer:
            special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
            word_tokenizer(folder, **(special | kwargs))
        return folder

    return save


@pytest.fixture
def in_cache(tmp_path):
    """Puts a folder into a hub cache; returns the arguments that find it there, offline."""

    def put(folder: Path, name="acme/tiny"):
        commit = "a" * 40
        repository = tmp_path / "cache" / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        shutil.copytree(folder, repository / "snapshots" / commit)
        return name, {"cache_dir": str(tmp_path / "cache"), "local_files_only": True}

    return put


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
