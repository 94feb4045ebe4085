"""Recipes of the wider family build and train."""

import json

import pytest

from tauten import recipes
from tauten.outcome import OUTCOME, load
from tauten.training import evaluate, train


def two_steps(name, output, **data):
    """Train a recipe for two small steps."""
    config = recipes.get(name)(output, epochs=2)
    config.data.limit = 24
    for option, value in data.items():
        setattr(config.data, option, value)
    config.model.dim = config.model.text_width = 8
    config.model.channels = (4, 8)
    config.optim.batch_size, config.evaluation.bootstrap = 16, 0
    if config.data.unseen:
        config.evaluation.metric = f"unseen/recall@{config.data.unseen}"
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


@pytest.fixture(scope="module")
def ratings(tmp_path_factory):
    """Write who of twelve users liked which of nine films."""
    folder = tmp_path_factory.mktemp("ratings")
    rows = ["userId,movieId,rating,timestamp"]
    rows += [f"{u},{(u + f) % 9},5,{f}" for u in range(1, 13) for f in range(3 + u % 6)]
    (folder / "ratings.csv").write_text("\n".join(rows))
    films = [f"{f},Film ({1990 + f}),Drama" for f in range(9)]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *films]))
    return folder


def test_films_are_recommended_among_those_not_seen(ratings, tmp_path):
    result = two_steps("films", tmp_path / "run", source=f"movielens:{ratings}", unseen=4)
    assert 0 <= result.test["unseen/recall@4"] <= 1
    assert result.test["unseen/NDCG@4"] <= result.test["unseen/recall@4"]
    queries = load(tmp_path / "run" / OUTCOME)
    assert float(queries.scores("unseen/recall@4").mean()) == pytest.approx(
        result.test["unseen/recall@4"]
    )
    again = evaluate(tmp_path / "run", bootstrap=0)
    assert again["unseen/recall@4"] == pytest.approx(result.test["unseen/recall@4"])


def test_unseen_candidates_need_texts(tmp_path):
    config = recipes.get("emoji_clip")(tmp_path / "run")
    config.data.unseen = 20
    with pytest.raises(ValueError, match="data.unseen=20 is of pairs of texts"):
        config.validate()


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    """Write captions of enough photos for three splits."""
    folder = tmp_path_factory.mktemp("sentences")
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(1540)]
    rows = [
        {"image_id": n, "caption": f"{kind} number {n} on a road"}
        for n in range(1540)
        for kind in ("a dog", "some dogs")
    ]
    content = {"images": images, "annotations": rows}
    (folder / "captions_val2017.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", ["sentences_crop", "sentences_esimcse"])
def test_two_views_of_a_sentence_are_a_pair(name, sentences, tmp_path):
    result = two_steps(name, tmp_path / "run", source=f"coco_sentences:{sentences}")
    assert 0 < result.test["x2y/mAP"] <= 1


def test_three_modalities_of_which_half_lack_one(tmp_path):
    result = two_steps("emoji_three", tmp_path / "run")
    assert {"image+another/x2y/hit@1", "another+caption/y2x/hit@10"} <= set(result.test)
    assert result.test["image+another/x2y/n"] < result.test["x2y/n"]
    assert recipes.get("emoji_two")().data.others == ()
