"""Trainings of pairs of texts: both sides go through one tower."""

import json

import numpy as np
import pytest

import tauten as tt
from tauten.models.text_encoder import TextEncoder
from tauten.training import DataConfig, evaluate, load_encoder, train
from tauten.training.stores.data_check import check_data
from tauten.training.stores.splits import load_splits
from tauten.training.tasks.module import ContrastiveModule

WORDS = "red green blue small large round square old new fast slow warm cold soft hard".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Make questions and answers of the same words; 12 rows have no question."""
    rng, rows = np.random.default_rng(0), []
    for i in range(300):
        chosen = rng.choice(WORDS, 4, replace=False)
        rows.append(
            {
                "question": None if i % 25 == 0 else " ".join(["which is", *chosen]),
                "answer": " ".join([*chosen[::-1], "it is"]),
                "kind": WORDS[int(rng.zipf(1.6)) % 4],
            }
        )
    path = tmp_path_factory.mktemp("texts") / "pairs.json"
    path.write_text(json.dumps(rows))
    return path


def of_texts(make_config, output, table, **more):
    data = {"texts": True, "image": "question", "caption": "answer", "label": "kind"}
    fields = {f"data__{name}": value for name, value in data.items()}
    fields |= {"data__source": str(table), "data__limit": None}
    return make_config(output, **fields | more)


@pytest.fixture(scope="module")
def run(make_config, table, tmp_path_factory):
    config = of_texts(make_config, tmp_path_factory.mktemp("run") / "run", table, optim__epochs=10)
    config.optim.lr = 0.02
    return train(config)


def test_one_tower_learns_from_both_sides(run, table):
    encoder, _, classes = load_encoder(run.output / "checkpoints" / "best")
    assert isinstance(encoder, TextEncoder)
    assert classes is not None
    assert run.test["x2y/MRR"] > 0.6
    assert run.test["x2y/MRR/low"] <= run.test["x2y/MRR"] <= run.test["x2y/MRR/high"]
    told = json.loads((run.output / "results.json").read_text())["protocol"]
    assert "first text to caption" in told["retrieval"]


def test_its_metrics_are_those_of_its_encoder(run, table):
    again = evaluate(run.output, bootstrap=0)
    assert again["x2y/MRR"] == pytest.approx(run.test["x2y/MRR"])
    pairs = load_splits(
        DataConfig(source=str(table), texts=True, image="question", caption="answer"), ("test",)
    )["test"]
    model = tt.load(run.output)
    x = model.encode_text(pairs.images.texts)
    y = model.encode_text([texts[0] for texts in pairs.captions])
    rank = 1 + (x @ y.T > (x * y).sum(dim=1, keepdim=True) + 1e-6).sum(dim=1)
    assert float((1 / rank).mean()) == pytest.approx(run.test["x2y/MRR"], abs=0.02)
    with pytest.raises(ValueError, match="does not embed images"):
        model.encode_image(["a.png"])


def test_other_data_are_read_in_the_same_way(run, table):
    found = evaluate(run.output, table, bootstrap=0)
    assert found["x2y/n"] == 288


def test_texts_that_are_equal_stay_together(tmp_path):
    chain = [{"a": f"text {i}", "b": f"text {i + 1}"} for i in range(4)]
    rest = [{"a": f"left {i}", "b": f"right {i}"} for i in range(60)]
    (tmp_path / "pairs.json").write_text(json.dumps(chain + rest))
    config = DataConfig(
        source=str(tmp_path / "pairs.json"), texts=True, image="a", caption="b", held_out=0.2
    )
    parts = load_splits(config)
    homes = [
        name for name, part in parts.items() for text in part.images.texts if text[:4] == "text"
    ]
    assert len(homes) == 4
    assert len(set(homes)) == 1
    assert "text 0" in check_data(config) or "left" in check_data(config)


def test_it_goes_on_bit_for_bit(make_config, table, tmp_path, check_resumed):
    configs = [of_texts(make_config, tmp_path / name, table) for name in ("whole", "broken")]
    check_resumed(*configs, ContrastiveModule, 8, 12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data__image": "image"}, "data.texts needs data.image"),
        ({"data__source": "emoji_lt"}, "emoji_lt have pictures"),
        ({"data__frames": 4, "data__strip": 4}, "data.texts has no pictures and needs data.frames"),
        ({"model__freeze": "both"}, "model.freeze=text, or none"),
        ({"model__image": "somewhere"}, "give the model as model.text"),
        ({"model__text": "minilm", "model__lora": 2}, "needs model.lora_towers=text, got both"),
    ],
)
def test_what_has_no_meaning_is_refused(make_config, tmp_path, table, options, said):
    config = of_texts(make_config, tmp_path / "run", table, **options)
    with pytest.raises(ValueError, match=said):
        train(config)
