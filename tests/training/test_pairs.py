import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tauten.models import BagTokenizer
from tauten.training import DataConfig, train
from tauten.training.pairs import PairStore, caption_counts, training_texts
from tauten.training.splits import PairData


def data():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    images[2] = images[0]
    return PairData(
        images=images,
        captions=[["cat"], ["dog", "hound"], ["bird"], ["cat"]],
        alternatives=["feline", "", "avian", "feline"],
        keywords=[["pet", "fur"], [], ["wing"], ["pet"]],
        labels=None,
        fingerprint="",
    )


def store(**fields):
    config = DataConfig(**fields)
    tokenizer = BagTokenizer.fit(training_texts(data(), config))
    return PairStore(data(), tokenizer, config)


def texts(store, index):
    ids = store.batch(torch.tensor(index))["texts"]["input_ids"]
    names = dict(enumerate(store.tokenizer.vocabulary, 2))
    return [" ".join(names[int(i)] for i in row if i > 1) for row in ids]


def test_equal_images_and_captions_have_equal_ids():
    batch = store().batch(torch.tensor([0, 1, 2, 3]))
    image_ids, caption_ids = batch["same"]
    assert image_ids[0] == image_ids[2] != image_ids[3]
    assert caption_ids[0] == caption_ids[3] != caption_ids[2]
    assert batch["index"].tolist() == [0, 1, 2, 3]
    assert batch["images"].dtype == torch.uint8


def test_one_of_several_captions_is_drawn():
    torch.manual_seed(0)
    assert {texts(store(), [1])[0] for _ in range(30)} == {"dog", "hound"}


def test_alternatives_and_keywords():
    torch.manual_seed(0)
    assert texts(store(alternative=1.0), [0, 1, 2])[0::2] == ["feline", "avian"]
    seen = {texts(store(keywords=1.0), [0])[0] for _ in range(20)}
    assert seen == {"cat pet", "cat fur"}
    assert texts(store(), [0]) == ["cat"]


def test_the_generator_determines_the_batch():
    made = store(alternative=0.5, keywords=0.5)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = [texts(made, [0, 1, 2, 3]) for _ in range(5)]
    torch.set_rng_state(state)
    assert [texts(made, [0, 1, 2, 3]) for _ in range(5)] == first
    assert any(a != first[0] for a in first)


def test_vocabulary_is_of_what_training_shows():
    assert set(training_texts(data(), DataConfig())) == {"cat", "dog", "hound", "bird"}
    assert "avian" in training_texts(data(), DataConfig(alternative=0.1))
    assert "wing" in training_texts(data(), DataConfig(keywords=0.1))


def test_captions_with_ids_of_their_own_are_numbered_image_by_image():
    counts = caption_counts(data())
    assert counts.tolist() == [1, 2, 1, 1]
    made = PairStore(data(), BagTokenizer.fit(["cat"]), DataConfig(), counts)
    torch.manual_seed(0)
    seen = {}
    for _ in range(30):
        batch = made.batch(torch.tensor([3, 1, 0]))
        for image, caption in zip(batch["index"].tolist(), batch["caption"].tolist(), strict=True):
            seen.setdefault(image, set()).add(caption)
    assert seen == {0: {0}, 1: {1, 2}, 3: {4}}
    assert "caption" not in store().batch(torch.tensor([0]))


def test_one_caption_each_has_the_id_of_its_image():
    single = dataclasses.replace(data(), captions=[own[:1] for own in data().captions])
    assert caption_counts(single) is None


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A table of images with one, two or three captions."""
    folder = tmp_path_factory.mktemp("several")
    lines = []
    for i in range(60):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        captions = [f"word{i} view{k}" for k in range(1 + i % 3)]
        split = ("val" if i % 6 == 4 else "test") if i >= 48 else "train"
        lines.append(
            {"image": f"{i}.png", "caption": captions, "split": split, "label": f"{i % 4}"}
        )
    table = folder / "table.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return table


@pytest.mark.parametrize(
    ("family", "kind", "kept"),
    [
        ("sogclr", "constant", ["loss_fn.tables"]),
        ("isogclr", "individual", ["loss_fn.tables", "loss_fn.strength.tables"]),
        ("fastclip", "learnable", ["loss_fn.tables"]),
        ("nuclr", "constant", ["loss_fn.tables", "loss_fn.offsets"]),
        ("infonce", "constant", []),
    ],
)
def test_what_a_loss_keeps_of_texts_is_kept_for_each_caption(
    several, tmp_path, make_config, family, kind, kept
):
    config = make_config(tmp_path / "run", family=family, control__kind=kind)
    config.data.source, config.data.image_size, config.data.limit = str(several), 16, None
    config.model.grid = 2
    config.optim.batch_size, config.optim.epochs = 16, 3
    train(config)
    state = load_file(tmp_path / "run" / "checkpoints" / "checkpoint-9" / "model.safetensors")
    assert {name.rpartition(".")[0] for name in state if "visits" in name} == {
        f"{table}.{side}" for table in kept for side in ("x2y", "y2x")
    }
    first = np.cumsum([0, *(1 + i % 3 for i in range(48))])
    for table in kept:
        visits = state[f"{table}.x2y.visits"], state[f"{table}.y2x.visits"]
        assert [len(side) for side in visits] == [48, 96]
        of_image = [int(visits[1][a:b].sum()) for a, b in itertools.pairwise(first)]
        assert of_image == visits[0].tolist() == [3] * 48
