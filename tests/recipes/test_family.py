"""Recipes of the wider family build and train."""

import json

import pytest

from tauten import recipes
from tauten.training import train


def two_steps(name, output, **data):
    """Train a recipe for two small steps."""
    config = recipes.get(name)(output, epochs=2)
    config.data.limit = 24
    for option, value in data.items():
        setattr(config.data, option, value)
    config.model.dim = config.model.text_width = 8
    config.model.channels = (4, 8)
    config.optim.batch_size, config.evaluation.bootstrap = 16, 0
    config.progress = config.tensorboard = False
    if config.loss.kind == "infonce" and config.loss.queue:
        config.loss.queue = 32
    return train(config)


def test_strong_clip(tmp_path):
    result = two_steps("emoji_clip_strong", tmp_path / "run")
    assert result.test["x2y/hit@10"] >= 0
    assert recipes.get("emoji_clip_strong")().loss.label_smoothing == 0.1
    assert recipes.get("emoji_clip")().data.keywords == 0


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Make a library of many small functions."""
    folder = tmp_path_factory.mktemp("library")
    for module in ("large", "small"):
        text = "\n".join(
            f'def get_{module}_{n}(a):\n    """Return the {module} thing number {n}."""\n'
            f"    return a + {n}\n"
            for n in range(120 if module == "large" else 40)
        )
        (folder / f"{module}.py").write_text(text)
    return folder


@pytest.mark.parametrize("name", ["code_search", "code_search_queue", "code_search_mmts"])
def test_code_search(name, library, tmp_path):
    result = two_steps(name, tmp_path / "run", source=f"python_functions:{library}")
    assert 0 < result.test["x2y/MRR"] <= 1
    told = json.loads((tmp_path / "run" / "results.json").read_text())
    assert "first text to caption" in told["protocol"]["retrieval"]


def test_captions_that_differ_in_one_attribute(tmp_path):
    result = two_steps("emoji_wording", tmp_path / "run", limit=60)
    assert 0 <= result.test["compositional/accuracy"] <= 1
